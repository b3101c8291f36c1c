//! `config init` on a file that is there.

use proptest::prelude::*;

use super::*;

#[test]
fn every_line_of_the_stub_stands_in_the_list_of_those_ever_written() {
    let written = include_str!("../written.txt");
    let missing: Vec<String> = SETTINGS
        .iter()
        .map(|setting| format!("{}\t{}", setting.block, stub::line(setting, Form::Hcl)))
        .filter(|line| !written.lines().any(|known| known == line))
        .collect();
    assert!(missing.is_empty(), "add to written.txt, and leave what stands there:\n{}", missing.join("\n"));
}

fn refreshed(text: &str) -> String {
    refresh::refreshed(&source("config.hcl", text))
}

#[test]
fn a_file_gets_the_settings_that_it_lacks_as_comments() {
    let old = "# mine\nstop {\n  grace = \"5s\" # quick\n}\n\nloop {\n  #max_restarts = 99\n}\nwatch { idle_after = \"1m\" }\n";
    let new = refreshed(old);
    assert!(new.starts_with("# mine\nstop {\n  grace = \"5s\" # quick\n}\n\nloop {\n  #max_restarts = 99\n  # max_wall_time = \"8h\""), "{new}");
    assert!(new.contains("watch { idle_after = \"1m\" }\n## watch.stuck_after = \"15m\""), "{new}");
    assert!(new.contains("\nstorage {\n  # root = ") && new.contains("# agent \"claude\" {\n"), "{new}");
    assert_eq!(good(&new).all(), good(&new).all());
    assert_eq!(refreshed(&new), new, "once is enough");
    let stub = stub::stub(Form::Hcl);
    assert_eq!(refreshed(&stub), stub);
    let (yaml_old, name) = ("stop:\n  grace: 5s\n", "config.yaml");
    let yaml = refresh::refreshed(&source(name, yaml_old));
    assert!(yaml.starts_with(yaml_old) && yaml.contains("\n## loop.adopt: \"ask\""), "{yaml}");
    assert_eq!(refresh::refreshed(&source(name, &yaml)), yaml);
    let yaml_stub = stub::stub(Form::Yaml);
    assert_eq!(refresh::refreshed(&source(name, &yaml_stub)), yaml_stub);
}

#[test]
fn a_comment_of_an_older_version_is_refreshed_unless_it_was_touched() {
    // A line that some version has written for a setting whose line is another now.
    let old = "# grace = \"10s\"  # how long after SIGTERM";
    let touched = "# grace = \"11s\"  # how long after SIGTERM";
    for (line, changes) in [(old, true), (touched, false)] {
        let text = stub::stub(Form::Hcl)
            .replace(&format!("# {}", stub::line(schema::find("stop", "grace").unwrap(), Form::Hcl)), line);
        assert!(text.contains(line));
        let new = refresh::refreshed_from(&source("config.hcl", &text), &format!("stop\t{}", &old[2..]));
        assert_eq!(new == stub::stub(Form::Hcl), changes, "{line}");
        assert_eq!(new == text, !changes, "{line}");
    }
}

/// Whether all of `lines` stand in `text`, in their order.
fn is_subsequence(lines: &[&str], text: &str) -> bool {
    let mut rest = text.lines();
    lines.iter().all(|line| rest.any(|other| other == *line))
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("# a note of mine".to_owned()),
        Just("## agents.order = []".to_owned()),
        Just("# agent \"x\" {".to_owned()),
        Just("# }".to_owned()),
        Just("/* more".to_owned()),
        Just("*/".to_owned()),
        Just("stop {".to_owned()),
        Just("stop { grace = \"3s\" }".to_owned()),
        Just("limits { }".to_owned()),
        Just("}".to_owned()),
        Just("loop {".to_owned()),
        Just("  verify = [<<EOT".to_owned()),
        Just("EOT".to_owned()),
        Just("  ]".to_owned()),
        Just("  grace = \"9s\" // mine".to_owned()),
        Just("agent \"mine\" {".to_owned()),
        Just("  type = \"shell\"".to_owned()),
        prop::sample::select(SETTINGS).prop_map(|s| format!("  # {}", stub::line(&s, Form::Hcl))),
        prop::sample::select(SETTINGS).prop_map(|s| format!("  # {} = 1", s.name)),
        prop::sample::select(SETTINGS).prop_map(|s| format!("  {} = {}", s.name, s.default)),
        "[ -~]{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_line_of_the_users_is_changed_or_dropped_and_once_is_enough(
        lines in prop::collection::vec(any_line(), 0..14),
        stubbed in any::<bool>(),
        end in prop::sample::select(&["\n", "\r\n"]),
    ) {
        let mut text = lines.join(end);
        if stubbed {
            text = format!("{}{end}{text}", stub::stub(Form::Hcl).replace('\n', end));
        }
        let (before, problems) = parse(&text);
        let kept: Vec<&str> = text.lines().collect();
        let new = refreshed(&text);
        prop_assert!(is_subsequence(&kept, &new), "{new}");
        if problems.is_empty() {
            let (after, problems) = parse(&new);
            prop_assert_eq!(problems, Vec::<String>::new(), "{}", new);
            let values = |config: &Config| config.all().into_iter().map(|(name, _, given)| (name, given.map(|g| g.value.clone()))).collect::<Vec<_>>();
            prop_assert_eq!(values(&before), values(&after));
            prop_assert_eq!(refreshed(&new), new);
        }
    }
}
