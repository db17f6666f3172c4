//! Tables for people: no borders, no more room than a terminal has, and everything where there is no terminal.

use super::screen::Look;
use super::text::{columns, escaped, shortened};
use comfy_table::{Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// What is between two columns.
const GAP: usize = 2;
/// What is left of the text at the end of each row, at least, when the terminal is narrow.
const LEAST_TEXT: usize = 16;

/// What a cell says at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Changing,
    Bad,
    Faint,
}

/// What to do with a column when the terminal is narrower than the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrow {
    /// Nothing: it is short.
    Keep,
    /// Shorten its middle, down to so many columns.
    Shorten(usize),
    /// Shorten its middle, and leave it out when that is not enough, since another column says the same.
    ShortenOrDrop(usize),
    /// Continue on the next line; only for the last column.
    Wrap,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) narrow: Narrow,
    /// Whether it holds numbers, which stand to the right.
    pub(super) numbers: bool,
}

/// A column of texts.
pub(super) const fn column(title: &'static str, narrow: Narrow) -> Column {
    Column { title, narrow, numbers: false }
}

/// A column of numbers.
pub(super) const fn numbers(title: &'static str) -> Column {
    Column { title, narrow: Narrow::Keep, numbers: true }
}

/// One cell; the text is escaped.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell that looks like most.
    pub(super) fn plain(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }

    /// A cell with a tone.
    pub(super) fn toned(text: &str, tone: Tone) -> Self {
        Self { text: escaped(text).into_owned(), tone }
    }
}

/// The table as text.
pub(super) fn table(columns: &[Column], rows: &[Vec<Cell>], look: &Look) -> String {
    let layout = Layout::of(columns, rows, look.width());
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    if look.colours {
        table.enforce_styling();
        table.style_text_only();
    }
    let shown = |cells: &mut dyn Iterator<Item = comfy_table::Cell>| -> Vec<comfy_table::Cell> {
        let aligned = cells.zip(columns).map(|(cell, column)| {
            cell.set_alignment(if column.numbers { CellAlignment::Right } else { CellAlignment::Left })
        });
        aligned.zip(&layout.widths).filter(|(_, width)| **width > 0).map(|(cell, _)| cell).collect()
    };
    table.set_header(shown(&mut columns.iter().map(|column| styled(column.title, Tone::Plain, look.colours, true))));
    for row in rows {
        let cells = row.iter().zip(&layout.widths);
        table.add_row(shown(
            &mut cells.map(|(cell, width)| styled(&layout.fitted(cell, *width), cell.tone, look.colours, false)),
        ));
    }
    let count = table.column_count();
    for (number, column) in table.column_iter_mut().enumerate() {
        let last = number + 1 == count;
        column.set_padding((0, if last { 0 } else { 2 }));
        if let (true, Some(width)) = (last, layout.wrap) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(u16::try_from(width).unwrap_or(u16::MAX))));
        }
    }
    table.trim_fmt() + "\n"
}

fn styled(text: &str, tone: Tone, colours: bool, title: bool) -> comfy_table::Cell {
    let cell = comfy_table::Cell::new(text);
    if !colours {
        return cell;
    }
    match tone {
        Tone::Plain if title => cell.add_attribute(Attribute::Bold),
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Changing => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
    }
}

/// How wide each column is; 0 is left out.
struct Layout {
    widths: Vec<usize>,
    /// The width at which the last column is continued on the next line.
    wrap: Option<usize>,
}

impl Layout {
    fn of(columns_of: &[Column], rows: &[Vec<Cell>], room: Option<usize>) -> Self {
        let natural = columns_of.iter().enumerate().map(|(number, column)| {
            let cells = rows.iter().filter_map(|row| row.get(number)).map(|cell| columns(&cell.text));
            cells.chain([column.title.len()]).max().unwrap_or(0)
        });
        let mut layout = Self { widths: natural.collect(), wrap: None };
        if let Some(room) = room {
            layout.narrow(columns_of, room);
        }
        layout
    }

    /// Shortens from the right to the left: process ids stand to the right of pattern names.
    fn narrow(&mut self, columns: &[Column], room: usize) {
        if let (Some(Narrow::Wrap), Some(last)) = (columns.last().map(|column| column.narrow), self.widths.last_mut()) {
            let wanted = *last;
            *last = wanted.min(LEAST_TEXT);
            self.shorten(columns, room);
            let spare = room.saturating_sub(self.total());
            let last = columns.len() - 1;
            let width = (self.widths[last] + spare).min(wanted);
            self.widths[last] = width;
            self.wrap = (width < wanted).then_some(width);
        } else {
            self.shorten(columns, room);
        }
    }

    fn shorten(&mut self, columns: &[Column], room: usize) {
        for (number, column) in columns.iter().enumerate().rev() {
            if let Narrow::Shorten(least) | Narrow::ShortenOrDrop(least) = column.narrow {
                self.give_up(number, least, room);
            }
        }
        if self.total() <= room {
            return;
        }
        for (number, column) in columns.iter().enumerate() {
            if matches!(column.narrow, Narrow::ShortenOrDrop(_)) {
                self.widths[number] = 0;
            }
        }
        for (number, column) in columns.iter().enumerate() {
            if let Narrow::Shorten(least) = column.narrow {
                self.give_up(number, least / 2, room);
                // What leaving out a column has freed more than was needed is given back.
                self.widths[number] += room.saturating_sub(self.total());
            }
        }
    }

    /// Takes from a column what the table is too wide by.
    fn give_up(&mut self, number: usize, least: usize, room: usize) {
        let width = self.widths[number];
        let over = self.total().saturating_sub(room);
        self.widths[number] = width.saturating_sub(over).max(width.min(least));
    }

    fn total(&self) -> usize {
        let shown = self.widths.iter().filter(|width| **width > 0);
        shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
    }

    fn fitted(&self, cell: &Cell, width: usize) -> String {
        if self.wrap == Some(width) { cell.text.clone() } else { shortened(&cell.text, width) }
    }
}
