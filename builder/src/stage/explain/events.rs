//! Two event logs: the first event that differs, and what it is about.

use std::collections::BTreeSet;

use anyhow::Result;
use measure::event_log::{Event, EventLog, Register, Row, compare};

use super::{Difference, Explanation, Line, Release, Verdict, files};
use crate::mend::Exit;
use crate::model::measurements::{FirmwareFile, Launch, Measurement, Quantity};

/// Compares what a release predicts for the launch that is most like the log, with the log.
pub(super) fn of_release(release: &Release, observed: &EventLog) -> Result<Explanation> {
    let launches = release.measurements.launches.iter();
    let fitting =
        launches.filter(|measurement| registers(measurement).any(|register| observed.of(register).any(|_| true)));
    let best = fitting.map(|measurement| (measurement, predicted(measurement, observed)));
    let best = best.min_by_key(|(_, log)| failures(&compare(log, observed)));
    let (measurement, log) = best.ok_or_else(|| {
        Exit::Usage.because(
            "the release predicts nothing of the registers that are in the log",
            "build it from a recipe with a launch on this platform: [[launch]] platform = \"tdx\" or \"tpm\"",
        )
    })?;
    let rows = compare(&log, observed);
    Ok(Explanation {
        compared: measurement.launch.to_string(),
        findings: Vec::new(),
        differences: first(&rows, &measurement.launch.firmware).into_iter().collect(),
        events: rows.iter().map(line).collect(),
    })
}

/// Compares the most similar of the logs that were predicted for a launch with the one that was made.
pub(crate) fn nearest(launch: &Launch, predicted: Vec<EventLog>, observed: &EventLog) -> Explanation {
    let nearest = predicted
        .into_iter()
        .min_by_key(|log| failures(&compare(log, observed)));
    let log = nearest.unwrap_or_default();
    let rows = compare(&log, observed);
    let mut differences: Vec<Difference> = first(&rows, &launch.firmware).into_iter().collect();
    let unknown = observed
        .events
        .iter()
        .find(|event| log.of(event.register).next().is_none());
    differences.extend(unknown.map(|event| Difference {
        what: format!("{} has events, and none was predicted", event.register),
        files: BTreeSet::new(),
        varies_with: BTreeSet::new(),
    }));
    Explanation {
        compared: launch.to_string(),
        findings: Vec::new(),
        differences,
        events: rows.iter().map(line).collect(),
    }
}

/// Compares two logs, of which nobody knows from which files they were made.
pub(super) fn of_logs(predicted: &EventLog, observed: &EventLog) -> Explanation {
    let rows = compare(predicted, observed);
    let differing = rows.iter().find(|row| !row.holds());
    let difference = differing.map(|row| Difference {
        what: said(row),
        files: BTreeSet::new(),
        varies_with: row.event().subject.varies_with().iter().copied().collect(),
    });
    Explanation {
        compared: "two event logs".into(),
        findings: Vec::new(),
        differences: difference.into_iter().collect(),
        events: rows.iter().map(line).collect(),
    }
}

/// The registers of which a launch has predictions.
fn registers(measurement: &Measurement) -> impl Iterator<Item = Register> {
    measurement.values.iter().filter_map(|value| match value.quantity {
        Quantity::Register(register) => Some(register),
        _ => None,
    })
}

/// The prediction of a launch, in that case for each register that is most like the log.
fn predicted(measurement: &Measurement, observed: &EventLog) -> EventLog {
    let distinct: BTreeSet<Register> = registers(measurement).collect();
    let best = distinct.into_iter().filter_map(|register| {
        let cases = measurement.of(Quantity::Register(register));
        cases
            .map(|value| &value.log)
            .min_by_key(|log| failures(&compare(log, observed)))
    });
    best.flat_map(|log| log.events.iter().cloned()).collect()
}

fn failures(rows: &[Row<'_>]) -> usize {
    rows.iter().filter(|row| !row.holds()).count()
}

/// The first event that differs and is not decided by another that does.
fn first(rows: &[Row<'_>], firmware: &FirmwareFile) -> Option<Difference> {
    let row = rows.iter().find(|row| !row.holds())?;
    let subject = &row.event().subject;
    Some(Difference {
        what: said(row),
        files: files(&subject.covers().iter().copied().collect(), firmware),
        varies_with: subject.varies_with().iter().copied().collect(),
    })
}

fn said(row: &Row<'_>) -> String {
    let Event {
        register,
        kind,
        subject,
        ..
    } = row.event();
    let said = match row {
        Row::Equal { .. } | Row::Unpredictable { .. } => "is as predicted",
        Row::Changed { .. } => "was measured otherwise than predicted",
        Row::Missing { .. } => "was predicted and not measured",
        Row::Unexpected { .. } => "was measured and not predicted",
    };
    format!("{register}, {kind}: {subject} {said}")
}

fn line(row: &Row<'_>) -> Line {
    let (verdict, predicted, observed, reason) = match row {
        Row::Equal { predicted, observed } => (Verdict::Equal, Some(predicted), Some(observed), None),
        Row::Changed { predicted, observed } => (Verdict::Changed, Some(predicted), Some(observed), None),
        Row::Missing { predicted } => (Verdict::Missing, Some(predicted), None, None),
        Row::Unexpected { observed } => (Verdict::Unexpected, None, Some(observed), None),
        Row::Unpredictable { observed, reason } => (Verdict::Unpredictable, None, Some(observed), Some(*reason)),
    };
    let event = row.event();
    Line {
        verdict,
        register: event.register,
        kind: event.kind,
        subject: event.subject.to_string(),
        predicted: predicted.map(|event| event.digests),
        observed: observed.map(|event| event.digests),
        reason,
    }
}
