//! One data directory has one server.

use super::support::platform::{Platform, Settings};

#[tokio::test]
async fn a_second_server_on_the_same_data_directory_is_refused_and_told_who_holds_it() {
    let mut platform = Platform::start(Settings::process()).await;

    let second = platform.cli_without_url(&["serve", "--listen", "127.0.0.1:0", "--backend", "process"]);

    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success(), "it started");
    assert!(stderr.contains(&platform.pid().to_string()), "does not name the holder: {stderr}");
    assert!(
        stderr.contains(&platform.data_dir().display().to_string()),
        "does not name the directory: {stderr}"
    );
    assert!(platform.ended().is_none(), "the first goes on");
}

#[tokio::test]
async fn a_killed_server_leaves_no_lock_behind() {
    let mut platform = Platform::start(Settings::process()).await;
    platform.kill();
    platform.launch();
    platform.wait_ready().await;
}
