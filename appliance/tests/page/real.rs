//! A real box with a page, and a browser that follows where it leads.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::browser::{Answer, Browser};
use crate::common::{data_folder, facts};

/// A box with a page whose certificate the tests believe.
pub fn with_page(folder: &Path) -> PathBuf {
    let data = data_folder(folder, "box");
    let tls = format!("{}/tests/tls", env!("CARGO_MANIFEST_DIR"));
    let page = format!("listen = '127.0.0.1:0'\ncertificate_file = '{tls}/server.pem'\nkey_file = '{tls}/server.key'");
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, config.replace("[page]\nlisten = ''", &format!("[page]\n{page}"))).expect("written");
    data
}

pub fn address(data: &Path) -> SocketAddr {
    facts(data, &["status"])["page"].as_str().and_then(|text| text.parse().ok()).expect("a page")
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Follows where a form leads.
pub fn follow(browser: &mut Browser, answer: &Answer) -> Answer {
    assert!((300..400).contains(&answer.status), "{} {}", answer.status, answer.body);
    let to = answer.header("location").to_owned();
    browser.get(&to)
}
