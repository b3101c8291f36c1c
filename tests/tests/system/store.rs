//! `store verify` and `store stats`.

use run_agent_tests::Root;

#[test]
fn verify_names_every_damaged_place_and_its_stream() {
    let root = Root::new();
    let (one, two) = (root.task_with("whole", "true"), root.task_with("damaged", "true"));
    let fine = root.json(&["store", "verify", "--json"]);
    let count = root.messages(&one).len() + root.messages(&two).len() + 1;
    assert_eq!(fine, serde_json::json!({ "streams": 3, "messages": count, "damage": [] }));
    let bus = root.bus_data(&two);
    let mut bytes = std::fs::read(&bus).unwrap();
    let first = bytes.windows(12).position(|bytes| bytes == b"TASK_CREATED").unwrap();
    bytes[first + 11] = b'T';
    std::fs::write(&bus, bytes).unwrap();
    let done = root.run(&["store", "verify", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, told["damage"].as_array().unwrap().len()), (1, 1), "{done:?}");
    assert!(first < 300, "it stands in the first entry");
    let damage = &told["damage"][0];
    assert_eq!(damage["stream"], two.to_string());
    assert!(damage["place"].as_str().unwrap().contains(bus.to_str().unwrap()), "{damage}");
    let text = root.run(&["store", "verify"]);
    let told = if root.is_markdown() { "at byte 0: the checksum" } else { "at byte 128: no frame" };
    assert!(text.stdout.contains(told), "{text:?}");
    assert_eq!(root.run(&["store", "verify", "--task", one.task.as_str()]).code, 0, "only what is named");
    assert_eq!(root.run(&["store", "verify", "--project", "p"]).code, 1);
    assert_eq!(root.run(&["store", "verify", "--project", "nowhere"]).code, 5);
}

#[test]
fn verify_deep_finds_a_payload_that_is_missing_or_cut() {
    let root = Root::new();
    let task = root.task_with("deep", "true");
    let file = root.scratch().join("data");
    std::fs::write(&file, "0123456789").unwrap();
    let post = ["bus", "post", "--task", task.task.as_str(), "--attach", file.to_str().unwrap(), "--json"];
    let paths = [(); 3].map(|()| {
        let name = root.json(&post)["attachment_path"].as_str().unwrap().to_owned();
        root.tree().task(&task).folder().join(name)
    });
    assert_eq!(root.run(&["store", "verify", "--deep"]).code, 0);
    std::fs::remove_file(&paths[0]).unwrap();
    std::fs::write(&paths[1], "0123").unwrap();
    assert_eq!(root.run(&["store", "verify"]).code, 0, "the streams are whole");
    let done = root.run(&["store", "verify", "--deep"]);
    assert_eq!((done.code, done.stdout.lines().count()), (1, 3), "{done:?}");
    assert!(done.stdout.contains("has 4 bytes and should have 10"), "{done:?}");
}

#[test]
fn stats_counts_what_each_stream_holds() {
    let root = Root::new();
    let task = root.task_with("stats", "true");
    let file = root.scratch().join("data");
    std::fs::write(&file, "x").unwrap();
    let _ = root.ok(&["bus", "post", "--task", task.task.as_str(), "--attach", file.to_str().unwrap()]);
    let told = root.json(&["store", "stats", "--json"]);
    let row = &told["streams"][1];
    let messages = root.messages(&task);
    let bytes = std::fs::metadata(root.bus_data(&task)).unwrap().len();
    assert_eq!(row["stream"], task.to_string());
    assert_eq!((&row["messages"], &row["bytes"]), (&messages.len().into(), &bytes.into()));
    assert_eq!(
        (&row["attachments"], &row["last_msg_id"]),
        (&1.into(), &messages.last().unwrap().id.as_str().into())
    );
    assert_eq!(row["files"], 1);
    assert_eq!(told["messages"], messages.len() + 1);
    let text = root.ok(&["store", "stats", "--task", task.task.as_str()]);
    assert_eq!(text.lines().count(), 3, "{text}");
}
