//! Runs in turns, what comes out of them, and the table that tells it.

use std::time::Duration;

use crate::shared::measure::{Cost, median};
use crate::stop;
use crate::tools::is_here;

/// Does the work once more, looks whether all of it was done, and says what it cost.
type Side<'a> = Box<dyn FnMut() -> Cost + 'a>;

/// What the runs of one side cost.
pub(crate) struct Runs {
    pub(crate) name: &'static str,
    pub(crate) costs: Vec<Cost>,
}

/// This program and its peers at the same work.
pub(crate) struct Contest<'a> {
    work: String,
    sides: Vec<(&'static str, Side<'a>, Goal)>,
    absent: Vec<&'static str>,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(work: &str, ours: impl FnMut() -> Cost + 'a) -> Self {
        let ours: (&str, Side<'a>, Goal) = ("this program", Box::new(ours), Goal::None);
        Self { work: work.to_owned(), sides: vec![ours], absent: Vec::new() }
    }

    /// A peer, if the programs that it takes are there, and how its time is to compare.
    pub(crate) fn beside(
        mut self,
        name: &'static str,
        programs: &[&str],
        goal: Goal,
        theirs: impl FnMut() -> Cost + 'a,
    ) -> Self {
        if programs.iter().all(|program| is_here(program)) {
            self.sides.push((name, Box::new(theirs), goal));
        } else {
            self.absent.push(name);
        }
        self
    }

    /// Runs all sides in turns, so that whatever else the machine does meets them alike. This program's runs come first.
    pub(crate) fn run(mut self, pairs: usize, table: &mut Table) -> Vec<Runs> {
        let mut runs: Vec<Runs> =
            self.sides.iter().map(|(name, ..)| Runs { name, costs: Vec::with_capacity(pairs) }).collect();
        for _ in 0..pairs {
            for ((_, run, _), runs) in self.sides.iter_mut().zip(&mut runs) {
                stop::if_asked();
                runs.costs.push(run());
            }
        }
        for (theirs, (.., goal)) in runs.iter().zip(&self.sides).skip(1) {
            table.beside(&self.work, &runs[0], theirs, Measure::Time, *goal);
        }
        if runs.len() == 1 {
            table.figure(&self.work, runs[0].told(), None, None);
        }
        for peer in self.absent {
            table.absent(&self.work, peer);
        }
        runs
    }
}

impl Runs {
    fn median(&self, of: impl Fn(&Cost) -> Duration) -> f64 {
        median(&self.costs.iter().map(of).collect::<Vec<_>>()).as_secs_f64()
    }

    pub(crate) fn peak_kib(&self) -> u64 {
        self.costs.iter().map(|cost| cost.peak_kib).max().unwrap_or(0)
    }

    fn told(&self) -> String {
        let (took, cpu) = (self.median(|cost| cost.took), self.median(|cost| cost.cpu));
        format!("{took:.2} s, CPU {cpu:.2} s, {}", mib(self.peak_kib()))
    }
}

/// What is compared.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    Time,
    Cpu,
}

impl Measure {
    fn of(self, cost: &Cost) -> f64 {
        match self {
            Self::Time => cost.took.as_secs_f64(),
            // `time` counts hundredths; what is none takes less than one.
            Self::Cpu => cost.cpu.as_secs_f64().max(0.005),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Cpu => "CPU",
        }
    }
}

/// What a comparison is held against.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// The peer takes so many times as much, at the least.
    Faster(f64),
    /// This program takes so much of what the peer takes, at the most.
    Within(f64),
    /// Only told.
    None,
}

struct Row {
    work: String,
    ours: String,
    beside: String,
    theirs: String,
    ratio: String,
    goal: String,
    is_met: Option<bool>,
}

/// All that was measured. Each row is printed once it is there.
pub(crate) struct Table {
    rows: Vec<Row>,
    judges: bool,
}

impl Table {
    /// `judges`: whether what comes in is held against its goals.
    pub(crate) fn new(judges: bool) -> Self {
        Self { rows: Vec::new(), judges }
    }

    /// What one peer took beside this program.
    pub(crate) fn beside(&mut self, work: &str, ours: &Runs, theirs: &Runs, measure: Measure, goal: Goal) {
        let is_faster = matches!(goal, Goal::Faster(_));
        let of_pair = |(our, their): (&Cost, &Cost)| {
            let ratio = measure.of(our) / measure.of(their);
            if is_faster { ratio.recip() } else { ratio }
        };
        let mut ratios: Vec<f64> = ours.costs.iter().zip(&theirs.costs).map(of_pair).collect();
        ratios.sort_by(f64::total_cmp);
        let (middle, low, high) = (ratios[ratios.len() / 2], ratios[0], ratios[ratios.len() - 1]);
        let (words, goal, is_met) = match goal {
            Goal::Faster(least) => {
                (format!("{middle:.1}× less"), format!("≥ {least}× less {}", measure.name()), Some(middle >= least))
            }
            Goal::Within(most) => {
                (format!("{middle:.2}×"), format!("≤ {most}× the {}", measure.name()), Some(middle <= most))
            }
            Goal::None => (format!("{middle:.2}×"), String::new(), None),
        };
        self.push(Row {
            work: work.to_owned(),
            ours: ours.told(),
            beside: theirs.name.to_owned(),
            theirs: theirs.told(),
            ratio: format!("{} {words} ({low:.2} to {high:.2})", measure.name()),
            goal,
            is_met,
        });
    }

    /// A figure of this program, that of a peer where there is one, and what this program's should be, with whether it is.
    pub(crate) fn figure(
        &mut self,
        work: &str,
        ours: String,
        theirs: Option<(&str, String)>,
        goal: Option<(&str, bool)>,
    ) {
        let (beside, theirs) = theirs.map_or_else(Default::default, |(name, figure)| (name.to_owned(), figure));
        let is_met = goal.map(|(_, is_met)| is_met);
        let goal = goal.map(|(goal, _)| goal.to_owned()).unwrap_or_default();
        self.push(Row { work: work.to_owned(), ours, beside, theirs, ratio: String::new(), goal, is_met });
    }

    /// A peer that is not there.
    pub(crate) fn absent(&mut self, work: &str, peer: &str) {
        self.figure(work, String::new(), Some((peer, "not installed".to_owned())), None);
    }

    fn push(&mut self, mut row: Row) {
        if !self.judges {
            row.is_met = None;
        }
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// All rows as a table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| work | this program | beside | took | ratio | goal | |\n|---|---|---|---|---|---|---|\n");
        for Row { work, ours, beside, theirs, ratio, goal, is_met } in &self.rows {
            let met = verdict(*is_met);
            text.push_str(&format!("| {work} | {ours} | {beside} | {theirs} | {ratio} | {goal} | {met} |\n"));
        }
        text
    }
}

impl Row {
    fn line(&self) -> String {
        let mut line = format!("{}: {}", self.work, self.ours);
        if !self.beside.is_empty() {
            line.push_str(&format!("\n    beside {}: {}", self.beside, self.theirs));
        }
        let rest = [&self.ratio, &self.goal, &verdict(self.is_met).to_owned()];
        let rest: Vec<&str> = rest.iter().map(|text| text.as_str()).filter(|text| !text.is_empty()).collect();
        if !rest.is_empty() {
            line.push_str(&format!("\n    {}", rest.join("; ")));
        }
        line
    }
}

fn verdict(is_met: Option<bool>) -> &'static str {
    match is_met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    }
}

/// KiB, as people read them.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
