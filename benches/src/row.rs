//! A row of a table: what was measured in each round, the figure that comes of it, and whether it is met. Pure.

use serde::Serialize;

/// What one round gave for the product and for its floor, in the row's unit.
pub(crate) type Round = (f64, f64);

/// How a round's two numbers become one.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Figure {
    Ratio,
    Extra,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Reach {
    AtMost(f64),
    AtLeast(f64),
    Informational,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    figure: Figure,
    reach: Reach,
    rounds: Vec<Round>,
    /// The figure's smallest value, median and greatest.
    spread: [f64; 3],
    verdict: String,
}

impl Row {
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        figure: Figure,
        reach: Reach,
        rounds: Vec<Round>,
    ) -> Self {
        let spread = spread(rounds.iter().map(|(ours, floor)| match figure {
            Figure::Ratio => ours / floor,
            Figure::Extra => ours - floor,
        }));
        let verdict = match reach {
            Reach::AtMost(limit) if spread[1] <= limit => "MET",
            Reach::AtLeast(limit) if spread[1] >= limit => "MET",
            Reach::AtMost(_) | Reach::AtLeast(_) => "MISSED",
            Reach::Informational => "-",
        };
        Self { what: what.into(), unit, figure, reach, rounds, spread, verdict: verdict.to_owned() }
    }

    /// A row that this machine cannot measure.
    pub(crate) fn skipped(what: impl Into<String>, why: &str) -> Self {
        let row = Self::new(what, "", Figure::Extra, Reach::Informational, Vec::new());
        Self { verdict: format!("SKIPPED: {why}"), ..row }
    }

    pub(crate) fn cells(&self) -> [String; 7] {
        if self.rounds.is_empty() {
            let none = || "-".to_owned();
            return [self.what.clone(), none(), none(), none(), none(), none(), self.verdict.clone()];
        }
        let [low, middle, high] = self.spread.map(|figure| self.show_figure(figure));
        let reach = match self.reach {
            Reach::AtMost(limit) => format!("<= {}", self.show_figure(limit)),
            Reach::AtLeast(limit) => format!(">= {}", self.show_figure(limit)),
            Reach::Informational => "-".to_owned(),
        };
        let ours = self.show(median(self.rounds.iter().map(|round| round.0)));
        let floor = self.show(median(self.rounds.iter().map(|round| round.1)));
        [self.what.clone(), ours, floor, middle, format!("{low} .. {high}"), reach, self.verdict.clone()]
    }

    fn show_figure(&self, figure: f64) -> String {
        match self.figure {
            Figure::Ratio => format!("{figure:.2} x"),
            Figure::Extra => format!("{figure:+.0} {}", self.unit),
        }
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
    let row =
        Row::new("x", "ms", Figure::Ratio, Reach::AtMost(2.0), vec![(2.0, 1.0), (9.0, 1.0), (3.0, 2.0)]);
    assert_eq!(row.cells(), ["x", "3 ms", "1 ms", "2.00 x", "1.50 x .. 9.00 x", "<= 2.00 x", "MET"]);
    assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), 2.5);
}
