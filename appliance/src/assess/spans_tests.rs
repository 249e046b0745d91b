use super::*;

const MINUTE: i64 = 60 * 1_000_000_000;

fn at(minutes: i64) -> Timestamp {
    Timestamp(1_795_392_000_000_000_000 + minutes * MINUTE)
}

fn row(dataset: &str, from: i64, until: i64, wire: u64) -> Row {
    Row { wire, ..Row::new(dataset.into(), at(from), at(until)) }
}

/// The example of the format's page.
fn example() -> String {
    let page = include_str!("../../../docs/formats/assessment.md");
    let from = page.find("```json\n").expect("an example") + 8;
    page[from..].split("```").next().expect("its end").to_owned()
}

#[test]
fn the_example_of_the_page_reads_and_is_written_alike() {
    let text = example();
    let found = read_from(text.as_bytes()).expect("a text");
    let [row] = &found.rows[..] else { panic!("{found:?}") };
    assert_eq!((row.dataset.as_str(), row.files, row.wire, row.unread), ("/srv/office", 812, 64_500, 0));
    assert_eq!(row.until.0 - row.from.0, 5 * MINUTE);
    let again: Row = serde_json::from_slice(&serde_json::to_vec(row).expect("JSON")).expect("a row");
    assert_eq!(&again, row);
    let fields = |text: &str| -> Vec<String> {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        value.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(fields(&text), fields(&serde_json::to_string(row).expect("JSON")));
}

#[test]
fn a_crash_costs_the_last_line_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(read(folder.path()).expect("nothing"), Rows::default());
    let rows = [row("a", 0, 0, 1000), row("a", 0, 5, 10), row("b", 0, 5, 20)];
    rows.iter().for_each(|row| add(folder.path(), row).expect("room"));
    let file = folder.path().join(FILE);
    let whole = std::fs::read(&file).expect("a file");
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("three lines") + 1;
    for cut in last..whole.len() {
        std::fs::write(&file, &whole[..cut]).expect("room");
        assert_eq!(read(folder.path()).expect("a file").rows, rows[..2], "{cut}");
        add(folder.path(), &rows[2]).expect("room");
        assert_eq!(std::fs::read(&file).expect("a file"), whole, "{cut}");
    }
}

#[test]
fn what_is_no_row_is_counted_and_passed_over() {
    let good = serde_json::to_string(&row("a", 0, 5, 10)).expect("JSON");
    let later = serde_json::to_string(&row("a", 5, 10, 10)).expect("JSON");
    let newer = good.replace("\"v\":1", "\"v\":2");
    let odd = good.replace("\"wire\":10", "\"wire\":-3");
    let text = [&good, "", "{", "[]", "\u{0}\u{1}", &newer, &odd, &later, ""].join("\n");
    let found = read_from(text.as_bytes()).expect("a text");
    assert_eq!((found.rows.len(), found.strange), (2, 6));
    let long = format!("{}\n{later}\n", "x".repeat(1 << 20));
    assert!(read_from(long.as_bytes()).expect("a text").strange > 0);
}

#[test]
fn a_clock_that_was_set_back_measures_nothing() {
    let text: String = [row("a", 0, 5, 1), row("a", 5, 2, 1), row("a", 2, 4, 1), row("a", 4, 9, 1), row("b", 0, 1, 1)]
        .iter()
        .map(|row| serde_json::to_string(row).expect("JSON") + "\n")
        .collect();
    let found = read_from(text.as_bytes()).expect("a text");
    // One ends before it begins, and what is between that and where the clock was is looked at a second time.
    assert_eq!((found.rows.len(), found.backwards, found.strange), (4, 1, 0));
}

#[test]
fn looks_become_spans_and_what_was_not_looked_at_is_a_gap() {
    let rows =
        vec![row("a", 2, 2, 999), row("a", 2, 7, 100), row("a", 7, 22, 30), row("a", 40, 45, 7), row("b", 7, 12, 5)];
    let found = Rows { rows, ..Rows::default() };
    let measured = found.measured().expect("changes");
    assert_eq!(measured.start, at(0));
    assert_eq!(measured.series[0].bytes, [Some(100), Some(10), Some(10), Some(10), None, None, None, None, Some(7)]);
    assert_eq!(measured.series[1].bytes, [None, Some(5)]);
    assert_eq!(measured.bytes(), 142, "what was spread is all there");
    assert_eq!(found.coarseness(), Some(300));
    let first = Rows { rows: vec![row("a", 0, 0, 5)], ..Rows::default() };
    assert_eq!((first.measured(), first.coarseness()), (None, None));
}
