use run_agent_core::ErrorClass;

use super::*;

fn used(input: u64, output: u64, micros: Option<u64>) -> Used {
    let tokens = Tokens { input, output, ..Tokens::default() };
    Used { model: None, tokens, cost: micros.map(|micros| Usd { micros }) }
}

fn retry(status: u16) -> Heard {
    Heard::Retrying(Retry {
        class: ErrorClass::RateLimit,
        status: Some(status),
        attempt: 1,
        of: None,
        wait: None,
        message: String::new(),
    })
}

/// What is told in so many seconds, of which each brings this a hundred times.
fn told_in(seconds: u64, news: &mut News, heard: impl Fn(u64) -> Heard) -> Vec<Event> {
    let begin = Instant::now();
    let mut told = Vec::new();
    for n in 0..seconds * 100 {
        news.hear(heard(n));
        told.extend(news.take(begin + Duration::from_millis(n * 10), false));
    }
    told.extend(news.take(begin + Duration::from_secs(seconds), true));
    told.into_iter().map(|(event, _)| event).collect()
}

fn sum(told: &[Event]) -> Totals {
    let reports = told.iter().filter_map(|event| match event {
        Event::RunUsage(usage) => Some(Totals {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_tokens: usage.cached_tokens,
            cost_usd: usage.cost_usd.unwrap_or_default(),
            cost_incomplete: usage.cost_usd.is_none(),
            incomplete: usage.incomplete,
        }),
        _ => None,
    });
    reports.fold(Totals::default(), |sum, report| sum.plus(&report))
}

#[test]
fn reports_are_added_up_and_told_now_and_then() {
    let mut news = News::default();
    let told = told_in(100, &mut news, |_| Heard::Usage(used(3, 2, Some(5))));
    assert!((5..30).contains(&told.len()), "{}", told.len());
    let wanted = Totals {
        input_tokens: 30_000,
        output_tokens: 20_000,
        cost_usd: Usd { micros: 50_000 },
        ..Totals::default()
    };
    assert_eq!(sum(&told), wanted);
}

#[test]
fn the_first_report_is_told_at_once_and_the_last_ones_without_another() {
    let (mut news, now) = (News::default(), Instant::now());
    news.hear(Heard::Usage(used(1, 1, None)));
    assert_eq!((news.take(now, false).len(), news.due_at(now)), (1, None));
    news.hear(Heard::Usage(used(1, 1, None)));
    assert_eq!(news.take(now, false).len(), 0);
    let due = news.due_at(now).unwrap();
    assert_eq!(news.take(due, false).len(), 1);
}

#[test]
fn models_are_told_apart() {
    let (mut news, now) = (News::default(), Instant::now());
    for model in ["a", "b", "a"] {
        news.hear(Heard::Usage(Used { model: Some(model.to_owned()), ..used(1, 1, None) }));
    }
    let told: Vec<u64> = news
        .take(now, false)
        .into_iter()
        .map(|(event, _)| match event {
            Event::RunUsage(usage) => usage.input_tokens,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [2, 1]);
}

#[test]
fn one_answer_is_told_when_it_is_whole_with_the_cost_that_its_last_report_names() {
    let mut news = News::new(None, Totals::default(), true);
    let told = told_in(15, &mut news, |n| Heard::Usage(used(0, 1, (n == 1499).then_some(4200))));
    assert_eq!(told.len(), 1, "{told:?}");
    let wanted = Totals { output_tokens: 1500, cost_usd: Usd { micros: 4200 }, ..Totals::default() };
    assert_eq!(sum(&told), wanted, "the cost is complete");
}

#[test]
fn troubles_that_take_turns_are_told_as_seldom_as_one() {
    for heard in [(|n: u64| retry(if n.is_multiple_of(2) { 429 } else { 503 })) as fn(u64) -> Heard, |n| {
        if n.is_multiple_of(2) { retry(429) } else { Heard::Recovered }
    }] {
        let told = told_in(100, &mut News::default(), heard);
        assert!((5..50).contains(&told.len()), "{}", told.len());
    }
}

#[test]
fn the_newest_trouble_is_told_when_its_time_has_come_and_its_end_at_once() {
    let (mut news, now) = (News::default(), Instant::now());
    let status = |news: Vec<New>| match &news[..] {
        [(Event::RunRetrying(retrying), _)] => retrying.http_status,
        other => panic!("{other:?}"),
    };
    news.hear(retry(429));
    assert_eq!(status(news.take(now, false)), Some(429));
    news.hear(retry(503));
    assert_eq!(news.take(now, false), []);
    let due = news.due_at(now).unwrap();
    assert_eq!(status(news.take(due, false)), Some(503));
    news.hear(Heard::Recovered);
    assert_eq!((status(news.take(due, false)), news.due_at(due)), (None, None));
}

#[test]
fn who_takes_over_tells_only_what_was_not_told() {
    let mut told =
        Totals { input_tokens: 10, output_tokens: 5, cost_usd: Usd { micros: 7 }, ..Totals::default() };
    assert_eq!(not_told(&used(10, 5, Some(7)), &mut told), None);
    assert_eq!(not_told(&used(3, 4, Some(0)), &mut told), Some(used(3, 4, Some(0))));
    assert_eq!(told, Totals::default());
}
