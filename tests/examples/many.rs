//! Makes a large root for measurements by hand: `many ROOT tasks COUNT`, or `many ROOT messages COUNT`.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use run_agent_core::Durability;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_runner::Tree;
use run_agent_tests::many;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [root, what, count] = args.as_slice() else { panic!("many ROOT tasks|messages COUNT") };
    let root = std::path::absolute(PathBuf::from(root)).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    let store = run_agent_tests::store_at(&root, Options::default());
    let layout = Layout::new(root);
    let tree = Tree { layout, store, durability: Durability::None, sync_every: std::time::Duration::ZERO };
    let count = count.parse().unwrap();
    match what.as_str() {
        "tasks" => many::tasks(&tree, "many", count),
        "messages" => many::messages(&tree, &many::name("long", 1), count),
        other => panic!("`{other}` is neither tasks nor messages"),
    }
}
