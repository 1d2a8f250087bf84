//! Unit, container file and Kubernetes manifests start the agent that there is, with what it needs and no more.

mod common;

use clap::Parser;
use common::files::{program, read, root, succeeded, yaml};
use common::source::Fake;
use monitor::capture::loader::Sizes;
use monitor::cli::{Cli, Command};
use monitor::config::{Config, Layer, defaults};
use monitor::expose::{View, http};
use monitor::privileges;
use monitor::serve::{Limits, serve};
use monitor::store::Store;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

const UNIT: &str = "deploy/systemd/whyrst.service";
const CONFIG: &str = "deploy/systemd/whyrst.toml";
const CONTAINERFILE: &str = "deploy/container/Containerfile";
const DAEMONSET: &str = "deploy/kubernetes/daemonset.yaml";

/// What systemd was seen to permit, kernels 6.1 and 6.12: with these together the agent attaches.
const HARDENING: [&str; 25] = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "PrivateIPC=yes",
    "RestrictNamespaces=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "PrivateMounts=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service bpf",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
];
/// Upper bound of what `systemd-analyze security` gives, in tenths (0 is best, 100 worst); systemd 252 gives 18.
const EXPOSURE: &str = "20";

/// Options of a unit by section.
fn unit(text: &str) -> BTreeMap<(String, String), String> {
    let mut section = String::new();
    let mut out = BTreeMap::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        assert!(out.insert((section.clone(), key.to_owned()), value.to_owned()).is_none(), "twice: {key}");
    }
    out
}

/// The arguments are those of `whyrst run`; gives the configuration file that they name.
fn runs_with_config<'a>(arguments: &[&'a str]) -> &'a Path {
    let parsed = Cli::try_parse_from(["whyrst"].iter().chain(arguments)).unwrap_or_else(|e| panic!("{e}"));
    let Command::Run(run) = parsed.command else { panic!("{arguments:?} is not `run`") };
    let path = arguments[arguments.iter().position(|a| *a == "--config").unwrap() + 1];
    assert_eq!(run.config.as_deref(), Some(Path::new(path)));
    Path::new(path)
}

fn capabilities() -> BTreeSet<&'static str> {
    privileges::NEEDED.iter().map(|(c, _)| privileges::name(*c)).collect()
}

#[test]
fn the_unit_starts_the_agent_with_the_capabilities_that_it_needs() {
    let text = read(UNIT);
    let unit = unit(&text);
    let service = |key: &str| unit[&("Service".to_owned(), key.to_owned())].as_str();
    let words: Vec<_> = service("ExecStart").split(' ').collect();
    assert_eq!(words[0], "/usr/bin/whyrst");
    let config = runs_with_config(&words[1..]);
    // Where the file and the comments say that it is installed.
    assert!(read(CONFIG).contains(&format!("Installed as {}.", config.display())));
    assert!(text.contains(&format!("#   {}", config.display())));
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(service(key).split(' ').collect::<BTreeSet<_>>(), capabilities(), "{key}");
    }
    assert_eq!(service("LimitMEMLOCK"), "infinity");
    // notify::notify says READY=1.
    assert_eq!(service("Type"), "notify");
    let run = Path::new("/run").join(service("RuntimeDirectory"));
    assert_eq!(Path::new(defaults::SOCKET).parent(), Some(run.as_path()));
    let service_lines: BTreeSet<_> = text.lines().collect();
    for directive in HARDENING {
        assert!(service_lines.contains(directive), "{directive}");
    }
}

#[test]
fn the_units_user_and_group_are_made_by_sysusers() {
    let unit = unit(&read(UNIT));
    let sysusers = read("deploy/systemd/whyrst.sysusers.conf");
    let made: Vec<_> = sysusers.lines().filter(|l| l.starts_with("u ")).collect();
    // A line `u` makes a user and the group of its name.
    let name = made[0].split_whitespace().nth(1);
    assert_eq!(made.len(), 1);
    for key in ["User", "Group"] {
        assert_eq!(Some(unit[&("Service".to_owned(), key.to_owned())].as_str()), name);
    }
}

#[test]
fn systemd_finds_no_fault_with_the_unit_and_little_exposure() {
    let Some(analyze) = program("systemd-analyze", "WHYRST_SYSTEMD_DIR") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whyrst.service");
    std::fs::write(&path, read(UNIT).replace("/usr/bin/whyrst", env!("CARGO_BIN_EXE_whyrst"))).unwrap();
    let said = succeeded(std::process::Command::new(&analyze).arg("verify").arg(&path));
    assert!(!said.contains("whyrst.service"), "{said}");
    let threshold = format!("--threshold={EXPOSURE}");
    let mut security = std::process::Command::new(&analyze);
    security.args(["security", "--offline=yes", "--no-pager", &threshold]).arg(&path);
    let said = succeeded(&mut security);
    assert!(said.contains("Overall exposure level for whyrst.service"), "{said}");
}

fn resolve(text: &str) -> Config {
    let layer: Layer = toml::from_str(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    Config::resolve(Layer::default(), layer, None).unwrap_or_else(|e| panic!("{e} in\n{text}"))
}

/// Every key that the configuration file may have, as its reader names them in an error.
fn keys() -> BTreeSet<String> {
    let error = toml::from_str::<Layer>("no_such_key = 1").unwrap_err().to_string();
    let names = error.split("expected one of").nth(1).unwrap_or_else(|| panic!("{error}"));
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_example_configuration_shows_every_key_and_the_true_defaults() {
    let text = read(CONFIG);
    let config = resolve(&text);
    assert_eq!(config.live.interfaces, ["eth0"]);
    let settings: Vec<_> = text
        .lines()
        .filter_map(|l| {
            let (key, value) = l.trim_start_matches("# ").split_once(" = ")?;
            keys().contains(key).then_some((key, value, l.starts_with('#')))
        })
        .collect();
    let shown: BTreeSet<_> = settings.iter().map(|(key, ..)| (*key).to_owned()).collect();
    let also = ["all"].into_iter().filter(|k| text.contains(&format!("`{k} = true`"))).map(str::to_owned);
    assert_eq!(shown.into_iter().chain(also).collect::<BTreeSet<_>>(), keys());
    let plain = format!("{:?}", resolve("interfaces = ['eth0']"));
    for (key, value, _) in settings.iter().filter(|(key, _, commented)| *commented && *key != "pin") {
        let with = resolve(&format!("interfaces = ['eth0']\n{key} = {value}"));
        assert_eq!(format!("{with:?}"), plain, "{key} = {value} is not the default");
    }
    let all = settings.iter().map(|(key, value, _)| format!("{key} = {value}\n")).collect::<String>();
    assert!(resolve(&all).live.pin.is_some());
}

/// Instructions of a container file with their arguments.
fn instructions(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|l| l.split_once(' ').unwrap()).collect()
}

#[test]
fn the_container_file_builds_and_starts_the_agent() {
    let text = read(CONTAINERFILE);
    let instructions = instructions(&text);
    let one = |name: &str| {
        let found: Vec<_> = instructions.iter().filter(|(n, _)| *n == name).map(|(_, a)| *a).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    };
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let rust = workspace["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(instructions[0].1.contains(&format!("/rust:{rust}-")), "{}", instructions[0].1);
    assert_eq!(one("RUN"), format!("cargo build --release --locked --package {}", env!("CARGO_PKG_NAME")));
    let copied = instructions.iter().find(|(n, a)| *n == "COPY" && a.starts_with("--from=build ")).unwrap().1;
    assert_eq!(copied, "--from=build /src/target/release/whyrst /usr/bin/whyrst");
    let words = |list: &str| serde_json::from_str::<Vec<String>>(list).unwrap();
    assert_eq!(words(one("ENTRYPOINT")), ["/usr/bin/whyrst"]);
    let command = words(one("CMD"));
    runs_with_config(&command.iter().map(String::as_str).collect::<Vec<_>>());
    // The commands of the head comment.
    let examples = text.lines().filter_map(|l| l.split(" whyrst ").nth(1).filter(|_| l.starts_with('#')));
    let examples: Vec<_> = examples.filter(|e| e.starts_with("run ") || e.starts_with("analyze ")).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        Cli::try_parse_from(["whyrst"].into_iter().chain(example.split(' '))).unwrap_or_else(|e| panic!("{e}"));
    }
    let granted = text.split("--cap-add ").skip(1).map(|rest| format!("CAP_{}", rest.split(' ').next().unwrap()));
    assert_eq!(granted.collect::<BTreeSet<_>>(), capabilities().into_iter().map(str::to_owned).collect());
}

#[test]
fn the_build_sees_the_workspace_and_nothing_else() {
    let text = read(&format!("{CONTAINERFILE}.dockerignore"));
    let admitted: BTreeSet<_> = text.lines().filter_map(|l| l.strip_prefix('!')).collect();
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let needed = members.iter().map(|m| m.as_str().unwrap()).chain(["Cargo.toml", "Cargo.lock"]);
    assert_eq!(admitted, needed.collect());
    assert!(text.lines().any(|l| l == "*") && text.lines().any(|l| l == "**/target"));
}

/// The object of this kind.
fn object(path: &str, kind: &str) -> Value {
    yaml(path).into_iter().find(|o| o["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {path}"))
}

/// The only container of a DaemonSet.
fn container(daemonset: &Value) -> &Value {
    let containers = daemonset["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

/// The configuration of the ConfigMap, through the agent's own reader.
fn node_config() -> Config {
    resolve(object(DAEMONSET, "ConfigMap")["data"]["whyrst.toml"].as_str().unwrap())
}

#[test]
fn the_daemonset_starts_the_agent_with_the_capabilities_that_it_needs() {
    let daemonset = object(DAEMONSET, "DaemonSet");
    let (pod, container) = (&daemonset["spec"]["template"]["spec"], container(&daemonset));
    let config = runs_with_config(&strings(&container["args"]));
    let security = &container["securityContext"];
    let granted = strings(&security["capabilities"]["add"]).into_iter().map(|c| format!("CAP_{c}"));
    assert_eq!(granted.collect::<BTreeSet<_>>(), capabilities().into_iter().map(str::to_owned).collect());
    assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(security["privileged"], false);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["tolerations"], serde_json::json!([{ "operator": "Exists" }]));
    // Volumes: the configuration, the folder of the socket, and of the host's the names of cgroups only, unwritable.
    let mounts: BTreeMap<_, _> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["mountPath"].as_str().unwrap(), m["name"].as_str().unwrap()))
        .collect();
    let folder = |path: &Path| path.parent().unwrap().to_str().unwrap().to_owned();
    let volume = |path: &str| pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == mounts[path]).unwrap();
    let map = volume(&folder(config))["configMap"]["name"].clone();
    assert_eq!(map, object(DAEMONSET, "ConfigMap")["metadata"]["name"]);
    assert!(object(DAEMONSET, "ConfigMap")["data"].get(config.file_name().unwrap().to_str().unwrap()).is_some());
    assert!(volume(&folder(&node_config().socket))["emptyDir"].is_object());
    let cgroups = "/sys/fs/cgroup";
    assert_eq!(volume(cgroups)["hostPath"]["path"], cgroups);
    let mount = container["volumeMounts"].as_array().unwrap().iter().find(|m| m["mountPath"] == cgroups).unwrap();
    assert_eq!(mount["readOnly"], true);
    assert_eq!(mounts.len(), 3);
    assert!(container["image"].as_str().unwrap().ends_with(&format!(":{}", env!("CARGO_PKG_VERSION"))));
    let labels = &daemonset["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&daemonset["spec"]["selector"]["matchLabels"], labels);
}

#[test]
fn the_containers_memory_holds_the_tables() {
    let daemonset = object(DAEMONSET, "DaemonSet");
    let resources = &container(&daemonset)["resources"];
    let mebibytes = |v: &Value| v.as_str().unwrap().strip_suffix("Mi").unwrap().parse::<u64>().unwrap();
    let live = node_config().live;
    let tables = Sizes { connections: live.max_connections, ring_bytes: live.ring_bytes }.bytes() >> 20;
    // The agent's own: findings, threads, the program.
    assert!(mebibytes(&resources["requests"]["memory"]) >= tables + 32, "{tables} MiB of tables");
    assert!(mebibytes(&resources["limits"]["memory"]) >= tables + 128, "{tables} MiB of tables");
}

/// The agent's pages, on a port of their own.
fn served() -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = http::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let router = http::router(View::new(Arc::new(Fake::default()), Arc::new(Store::new(1))));
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        serve(listener, router, Limits::default(), std::future::pending()).await;
    });
    (runtime, address)
}

fn status_line(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn probes_and_scrapes_ask_for_pages_that_exist_where_the_agent_listens() {
    let (_runtime, address) = served();
    let daemonset = object(DAEMONSET, "DaemonSet");
    let listen = node_config().listen.expect("the probes need it");
    for probe in ["livenessProbe", "readinessProbe"] {
        let get = &container(&daemonset)[probe]["httpGet"];
        assert_eq!(get["host"], listen.ip().to_string(), "{probe}");
        assert_eq!(get["port"], listen.port(), "{probe}");
        let path = get["path"].as_str().unwrap();
        assert_eq!(status_line(address, path), "HTTP/1.1 200 OK", "{path}");
    }
    let monitor = object("deploy/kubernetes/podmonitor.yaml", "PodMonitor");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(status_line(address, endpoint["path"].as_str().unwrap()), "HTTP/1.1 200 OK");
    let patch = object("deploy/kubernetes/listen.yaml", "DaemonSet");
    let port = &container(&patch)["ports"][0];
    assert_eq!(endpoint["port"], port["name"]);
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], daemonset["spec"]["template"]["metadata"]["labels"]);
    // What the patch listens on, with an address in place of the variable.
    let arguments = strings(&container(&patch)["args"]);
    runs_with_config(&arguments);
    let variable = container(&patch)["env"][0]["name"].as_str().unwrap();
    let place = arguments.iter().skip_while(|a| **a != "--listen").nth(1).unwrap();
    let place = place.replace(&format!("$({variable})"), "192.0.2.1");
    assert_eq!(place.parse::<SocketAddr>().unwrap().port(), port["containerPort"]);
    assert_eq!(container(&patch)["name"], container(&daemonset)["name"]);
}

#[test]
fn the_kustomization_names_files_that_exist() {
    let kustomization = object("deploy/kubernetes/kustomization.yaml", "Kustomization");
    let patches = kustomization["patches"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap());
    let folder = root().join("deploy/kubernetes");
    for file in strings(&kustomization["resources"]).into_iter().chain(patches) {
        assert!(folder.join(file).is_file(), "{file}");
    }
}
