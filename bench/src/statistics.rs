//! Figures of many rounds.

/// Least, median and greatest.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// No numbers without figures.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut v: Vec<f64> = values.into_iter().collect();
        v.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (v.first(), v.last()) else {
            return Spread { min: f64::NAN, median: f64::NAN, max: f64::NAN };
        };
        let middle = v.len() / 2;
        let median = if v.len() % 2 == 1 { v[middle] } else { (v[middle - 1] + v[middle]) / 2.0 };
        Spread { min, median, max }
    }
}

/// Mean of many figures, and how far the true one may be from it: the half width of the interval that holds it in 95 of
/// 100 cases.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Mean {
    pub mean: f64,
    pub within: f64,
}

impl Mean {
    /// No numbers without at least two figures.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Mean {
        let v: Vec<f64> = values.into_iter().collect();
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        let variance = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Mean { mean, within: 1.96 * (variance / n).sqrt() }
    }

    /// The geometric mean: the ratio of two equals is above 1 as often and as far as it is below.
    pub fn of_ratios(values: impl IntoIterator<Item = f64>) -> Mean {
        let logarithm = Mean::of(values.into_iter().map(f64::ln));
        Mean { mean: logarithm.mean.exp(), within: logarithm.mean.exp() * logarithm.within }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Spread { min: 1.0, median: 2.5, max: 4.0 });
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn a_mean_is_known_better_by_more_figures() {
        let few = Mean::of([1.0, 3.0]);
        // The variance of two figures is 2, of their mean 1.
        assert_eq!((few.mean, few.within), (2.0, 1.96));
        let many = Mean::of((0..100).map(|i| if i % 2 == 0 { 1.0 } else { 3.0 }));
        assert!(many.mean == 2.0 && (many.within - 1.96 * (100.0f64 / 99.0 / 100.0).sqrt()).abs() < 1e-9);
        let even = Mean::of_ratios([0.5, 2.0]);
        assert!((even.mean - 1.0).abs() < 1e-9);
    }
}
