//! A row of a table: what was measured in each round, the figure that comes of it, and whether it is met. Pure.

use serde::Serialize;

/// What one round gave for the product and for its floor, in the row's unit.
pub(crate) type Round = (f64, f64);

/// How a round's two numbers become the row's figure, and what is to be reached with it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Reach {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// The ratio is for information.
    Ratio,
    /// What the product takes beyond the floor.
    ExtraAtMost(f64),
    /// The product's own number; the floor is for information.
    AtMost(f64),
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    reach: Reach,
    rounds: Vec<Round>,
    /// The figure's smallest value, median and greatest.
    spread: [f64; 3],
    verdict: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, reach: Reach, rounds: Vec<Round>) -> Self {
        let spread = spread(rounds.iter().map(|(ours, floor)| match reach {
            Reach::RatioAtMost(_) | Reach::RatioAtLeast(_) | Reach::Ratio => ours / floor,
            Reach::ExtraAtMost(_) => ours - floor,
            Reach::AtMost(_) => *ours,
        }));
        let said = |met| if met { "MET" } else { "MISSED" };
        let verdict = match reach {
            Reach::RatioAtMost(limit) | Reach::ExtraAtMost(limit) | Reach::AtMost(limit) => {
                said(spread[1] <= limit)
            }
            Reach::RatioAtLeast(limit) => said(spread[1] >= limit),
            Reach::Ratio => "-",
        };
        let verdict = verdict.to_owned();
        Self { what: what.into(), unit, reach, rounds, spread, verdict }
    }

    /// A row that this machine cannot measure.
    pub(crate) fn skipped(what: &str, why: &str) -> Self {
        Self { verdict: format!("SKIPPED: {why}"), ..Self::new(what, "", Reach::Ratio, Vec::new()) }
    }

    pub(crate) fn cells(&self) -> [String; 7] {
        let ratio = |figure: f64| format!("{figure:.2} x");
        let extra = |figure: f64| format!("{figure:+.0} {}", self.unit);
        let (figures, reach) = match self.reach {
            Reach::RatioAtMost(limit) => (self.spread.map(ratio), format!("<= {}", ratio(limit))),
            Reach::RatioAtLeast(limit) => (self.spread.map(ratio), format!(">= {}", ratio(limit))),
            Reach::Ratio => (self.spread.map(ratio), "-".to_owned()),
            Reach::ExtraAtMost(limit) => (self.spread.map(extra), format!("<= {}", extra(limit))),
            Reach::AtMost(limit) => {
                (self.spread.map(|own| self.show(own)), format!("<= {}", self.show(limit)))
            }
        };
        let [low, middle, high] = figures;
        let ours = self.show(median(self.rounds.iter().map(|round| round.0)));
        let floor = self.show(median(self.rounds.iter().map(|round| round.1)));
        [self.what.clone(), ours, floor, middle, format!("{low} .. {high}"), reach, self.verdict.clone()]
            .map(|cell| if cell.contains("NaN") { "-".to_owned() } else { cell })
    }

    fn show(&self, value: f64) -> String {
        let digits = if value < 1.0 { 3 } else { usize::from(value < 100.0 && value.fract() != 0.0) };
        format!("{value:.digits$} {}", self.unit).trim_end().to_owned()
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    spread(values)[1]
}

fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |n: usize| values.get(n).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    [at(0), f64::midpoint(at(last / 2), at(last.div_ceil(2))), at(last)]
}

#[test]
fn the_verdict_is_the_medians() {
    let row = Row::new("x", "ms", Reach::RatioAtMost(2.0), vec![(2.0, 1.0), (9.0, 1.0), (3.0, 2.0)]);
    assert_eq!(row.cells(), ["x", "3 ms", "1 ms", "2.00 x", "1.50 x .. 9.00 x", "<= 2.00 x", "MET"]);
    assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), 2.5);
}
