//! What disks say of themselves (SMART), as `smartctl` tells it in JSON. It is asked where it is installed; a disk that sleeps is let sleep.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tools;

/// How long one disk may take for its answer, in seconds.
const SECONDS: &str = "10";

/// How well a disk takes itself to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "DiskVerdict")]
pub enum Verdict {
    /// It says nothing, or nobody could ask it.
    #[default]
    Unknown,
    /// Nothing is wrong.
    Good,
    /// It works, and shows signs of age: no disk to begin with.
    Worn,
    /// It says itself that it will fail.
    Failing,
}

/// What a disk says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "DiskSelf")]
pub struct Smart {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence without its capital, or why nobody knows.
    pub says: String,
}

impl Smart {
    fn unknown(why: impl Into<String>) -> Smart {
        Smart { verdict: Verdict::Unknown, says: why.into() }
    }
}

/// Asks a disk.
pub fn ask(path: &str) -> Smart {
    if tools::need(&["smartctl"]).is_err() {
        return Smart::unknown("not known: smartctl is not installed (apt install smartmontools)");
    }
    let args = [SECONDS, "smartctl", "--json", "--info", "--health", "--attributes", "--nocheck=standby", path];
    match tools::try_run("timeout", &args, &[]) {
        // What `timeout` ends with that has waited enough.
        Ok(ended) if ended.code == 124 => Smart::unknown("not known: the disk does not answer"),
        Ok(ended) => read(&ended.out),
        Err(failed) => Smart::unknown(format!("not known: {failed}")),
    }
}

/// Understands an answer. Its exit code says nothing that is not in it.
fn read(json: &[u8]) -> Smart {
    let Ok(said) = serde_json::from_slice::<Value>(json) else {
        return Smart::unknown("not known: what smartctl says is not understood");
    };
    if said["power_mode"]["ata_value"].as_u64() == Some(0) {
        return Smart::unknown("not known: it sleeps, and was not woken");
    }
    let signs = signs(&said);
    let age = age(&said);
    let with_age = |text: String| if age.is_empty() { text } else { format!("{text} ({age})") };
    match said["smart_status"]["passed"].as_bool() {
        Some(false) => {
            let more = if signs.is_empty() { String::new() } else { format!(": {}", signs.join(", ")) };
            Smart { verdict: Verdict::Failing, says: with_age(format!("it says itself that it will fail{more}")) }
        }
        Some(true) if signs.is_empty() => {
            Smart { verdict: Verdict::Good, says: with_age("it finds nothing wrong with itself".into()) }
        }
        _ if !signs.is_empty() => Smart { verdict: Verdict::Worn, says: with_age(signs.join(", ")) },
        _ => Smart::unknown("not known: it says nothing of its health"),
    }
}

/// Signs of age, in words.
fn signs(said: &Value) -> Vec<String> {
    let mut signs = Vec::new();
    // The numbers that all makers use alike: sectors replaced by spares, waiting to be, and lost.
    for (id, what) in [(5, "sectors replaced"), (197, "sectors hard to read"), (198, "sectors lost")] {
        let table = said["ata_smart_attributes"]["table"].as_array();
        let found = table.into_iter().flatten().find(|row| row["id"].as_u64() == Some(id));
        if let Some(count) = found.and_then(|row| row["raw"]["value"].as_u64()).filter(|count| *count > 0) {
            signs.push(format!("{count} {what}"));
        }
    }
    let nvme = &said["nvme_smart_health_information_log"];
    if let Some(used) = nvme["percentage_used"].as_u64().filter(|used| *used >= 90) {
        signs.push(format!("{used} % of its life is used"));
    }
    if nvme["critical_warning"].as_u64().is_some_and(|warning| warning != 0) {
        signs.push("it warns of its own state".into());
    }
    if let Some(lost) = nvme["media_errors"].as_u64().filter(|lost| *lost > 0) {
        signs.push(format!("{lost} errors of its memory"));
    }
    signs
}

/// How long it ran, and how warm it is.
fn age(said: &Value) -> String {
    let hours = said["power_on_time"]["hours"].as_u64().map(|hours| match hours {
        0..720 => format!("ran for {} days", hours / 24),
        720..17_520 => format!("ran for {} months", hours / 720),
        _ => format!("ran for {} years", hours / 8760),
    });
    let warm = said["temperature"]["current"].as_u64().map(|degrees| format!("{degrees} °C"));
    hours.into_iter().chain(warm).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(what: Value) -> (Verdict, String) {
        let smart = read(what.to_string().as_bytes());
        (smart.verdict, smart.says)
    }

    fn ata(passed: bool, replaced: u64) -> Value {
        json!({
            "smart_status": { "passed": passed },
            "ata_smart_attributes": { "table": [
                { "id": 5, "name": "Reallocated_Sector_Ct", "raw": { "value": replaced } },
                { "id": 194, "name": "Temperature_Celsius", "raw": { "value": 31 } },
                { "id": 197, "name": "Current_Pending_Sector", "raw": { "value": 0 } }
            ] },
            "power_on_time": { "hours": 26_400 },
            "temperature": { "current": 31 }
        })
    }

    #[test]
    fn a_disk_is_as_well_as_it_says() {
        assert_eq!(
            said(ata(true, 0)),
            (Verdict::Good, "it finds nothing wrong with itself (ran for 3 years, 31 °C)".into())
        );
        assert_eq!(said(ata(true, 8)), (Verdict::Worn, "8 sectors replaced (ran for 3 years, 31 °C)".into()));
        let (verdict, says) = said(ata(false, 2000));
        assert!(verdict == Verdict::Failing && says.contains("will fail: 2000 sectors replaced"), "{says}");
        let nvme = json!({
            "smart_status": { "passed": true },
            "nvme_smart_health_information_log": { "critical_warning": 0, "percentage_used": 97, "media_errors": 0 },
            "power_on_time": { "hours": 100 }
        });
        assert_eq!(said(nvme), (Verdict::Worn, "97 % of its life is used (ran for 4 days)".into()));
    }

    #[test]
    fn what_says_nothing_is_not_taken_for_good() {
        // As smartctl answers of a disk of a virtual machine, of one that sleeps, and of none.
        for none in [
            json!({ "smartctl": { "exit_status": 4 }, "smart_support": { "available": false } }),
            json!({ "power_mode": { "ata_value": 0 }, "smart_status": { "passed": true } }),
            json!({}),
            json!([1]),
        ] {
            assert_eq!(said(none.clone()).0, Verdict::Unknown, "{none}");
        }
        assert_eq!(read(b"").verdict, Verdict::Unknown);
    }
}
