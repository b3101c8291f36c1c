//! Tables that fit the terminal: columns as wide as what stands in them, the least important cut first.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Hue, Paint};

/// Blanks between two columns.
const GAP: usize = 2;

/// A column. `rank` is its importance: where there is too little room, the lowest is cut down to `min` and, if that does
/// not help, left out, before the next is touched. Columns that are `kept` are cut before one of them is left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) right: bool,
    pub(crate) min: usize,
    pub(crate) rank: u8,
    pub(crate) kept: bool,
}

impl Column {
    pub(crate) const fn new(title: &'static str, rank: u8) -> Self {
        Self { title, right: false, min: 8, rank, kept: false }
    }

    /// For numbers.
    pub(crate) const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    pub(crate) const fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    pub(crate) const fn min(mut self, min: usize) -> Self {
        self.min = min;
        self
    }
}

/// One cell: text on one line, and what it means.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    hue: Option<Hue>,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hue: None }
    }

    pub(crate) fn hue(mut self, hue: Hue) -> Self {
        self.hue = Some(hue);
        self
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// Rows without titles for stdout, as wide as the terminal. The last column is the least important.
pub(crate) fn table<C: Clone + Into<Cell>>(rows: &[Vec<C>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let columns: Vec<Column> = (0..count)
        .map(|n| Column::new("", u8::try_from(count - n).unwrap_or(u8::MAX)))
        .map(|column| if column.rank == 1 { column } else { column.kept() })
        .collect();
    let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.iter().cloned().map(Into::into).collect()).collect();
    lines(&columns, &rows, Paint::stdout(), super::width())
}

/// A table with titles for stdout, as wide as the terminal.
pub(crate) fn columns(columns: &[Column], rows: &[Vec<Cell>]) -> String {
    titled(columns, rows, Paint::stdout(), super::width())
}

fn titled(columns: &[Column], rows: &[Vec<Cell>], paint: Paint, width: Option<usize>) -> String {
    let titles: Vec<Cell> = columns.iter().map(|c| Cell::new(c.title).hue(Hue::Quiet)).collect();
    let rows: Vec<Vec<Cell>> = std::iter::once(titles).chain(rows.iter().cloned()).collect();
    lines(columns, &rows, paint, width)
}

fn lines(columns: &[Column], rows: &[Vec<Cell>], paint: Paint, width: Option<usize>) -> String {
    let widths = fit(columns, rows, width);
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        let mut blanks = 0;
        for ((column, cell), width) in columns.iter().zip(row).zip(&widths) {
            let Some(width) = *width else { continue };
            let text = cut(&cell.text, width);
            let pad = width - text.width();
            let painted = cell.hue.map_or_else(|| text.clone(), |hue| paint.hue(hue, &text));
            let before = if column.right { blanks + pad } else { blanks };
            if !text.is_empty() {
                line.push_str(&" ".repeat(before));
                line.push_str(&painted);
                blanks = 0;
            } else {
                blanks = before;
            }
            // Blanks are owed and not written, so that none ends a line.
            blanks += GAP + if column.right { 0 } else { pad };
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// How wide each column may be; `None` for one that is left out.
fn fit(columns: &[Column], rows: &[Vec<Cell>], width: Option<usize>) -> Vec<Option<usize>> {
    let natural = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.text.width()).max();
        cells.unwrap_or(0)
    };
    let mut widths: Vec<Option<usize>> = (0..columns.len()).map(|n| Some(natural(n))).collect();
    let Some(limit) = width else { return widths };
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|n| columns[*n].rank);
    let total = |widths: &[Option<usize>]| {
        let shown = widths.iter().flatten().count();
        widths.iter().flatten().sum::<usize>() + GAP * shown.saturating_sub(1)
    };
    let narrow = |widths: &mut [Option<usize>], n: usize| {
        let over = total(widths).saturating_sub(limit);
        widths[n] = widths[n].map(|width| width.saturating_sub(over).max(columns[n].min.min(width)));
    };
    let (kept, others): (Vec<usize>, Vec<usize>) = by_rank.iter().partition(|n| columns[**n].kept);
    for n in others {
        narrow(&mut widths, n);
        if total(&widths) > limit {
            widths[n] = None;
        }
    }
    for n in kept.iter().rev() {
        narrow(&mut widths, *n);
    }
    for n in kept.iter().take(kept.len().saturating_sub(1)) {
        if total(&widths) > limit {
            widths[*n] = None;
        }
    }
    // What a column that was left out has freed goes to the most important of the others that were cut.
    for n in by_rank.iter().rev() {
        let free = limit.saturating_sub(total(&widths));
        if let Some(width) = widths[*n] {
            widths[*n] = Some((width + free).min(natural(*n)));
        }
    }
    if let Some(n) = by_rank.last()
        && total(&widths) > limit
    {
        widths[*n] = Some(limit);
    }
    widths
}

/// The beginning of a text with `…` where it was cut, no wider than `width` columns of a terminal.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::new("STATUS", 9).min(6).kept(),
        Column::new("RUNS", 2).right().min(4),
        Column::new("TITLE", 1).min(5),
    ];

    fn shown(rows: &[[&str; 3]], width: Option<usize>) -> String {
        let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.map(Cell::new).to_vec()).collect();
        titled(&COLUMNS, &rows, Paint::OFF, width)
    }

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_stand_right() {
        let text = shown(&[["failed", "7", "one"], ["completed", "12345", ""]], None);
        assert_eq!(text, "STATUS      RUNS  TITLE\nfailed         7  one\ncompleted  12345\n");
    }

    #[test]
    fn the_least_important_column_is_cut_first_and_then_left_out() {
        let row = [["failed", "7", "a title that is long"]];
        assert_eq!(shown(&row, Some(20)), "STATUS  RUNS  TITLE\nfailed     7  a tit…\n");
        assert_eq!(shown(&row, Some(14)), "STATUS  RUNS\nfailed     7\n");
        assert_eq!(shown(&row, Some(4)), "STA…\nfai…\n");
    }

    #[test]
    fn wide_characters_are_measured_as_a_terminal_shows_them() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
        for width in 1..40 {
            let text = shown(&[["日本語日本語", "7", "日本語日本語日本語"]], Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
        }
    }
}
