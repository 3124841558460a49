//! Heads on sets whose answers are known.

use ingle_heads::{Head, Kind, Options, Set, Trained, train};

/// Numbers from 0 to less than 1, the same each time.
fn chance(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Points of a square, by the corner that they are nearest; `cross` gives opposite corners the same
/// label, which no line can part.
fn corners(rows: usize, cross: bool) -> (Vec<Vec<f32>>, Vec<String>) {
    let mut next = chance(3);
    let row = |_| {
        let (x, y) = (next() - 0.5, next() - 0.5);
        let name = match (x > 0.0, y > 0.0) {
            (right, up) if cross => format!("cross {}", right == up),
            (right, up) => format!("{right} {up}"),
        };
        (vec![x as f32, y as f32, 1.0], name)
    };
    (0..rows).map(row).unzip()
}

fn trained(cross: bool, options: &Options) -> Trained {
    let (vectors, labels) = corners(600, cross);
    let set = Set::new(&vectors, &labels).expect("is a set");
    train(&set, "corners", Some("query"), options).expect("is trained")
}

#[test]
fn heads_learn_what_they_can() {
    let check = |kind, cross, least: f64, most: f64| {
        let options = Options { kind, units: 16, threads: 2, ..Options::default() };
        let told = trained(cross, &options);
        let report = &told.calibration.after;
        let accuracy = report.accuracy.value;
        assert!((least..=most).contains(&accuracy), "{kind:?} {cross} {accuracy}");
        assert!(report.ece.value < 0.06, "{kind:?} {cross} {:?}", report.ece);
        assert_eq!((report.rows, told.folds), (600, 5));
        // What is saved says the same.
        let head = Head::read(told.head.write().as_bytes()).expect("reads");
        assert_eq!(head, told.head);
        assert_eq!((head.kind(), head.dimensions()), (kind, 3));
        assert_eq!(head.prompt.as_deref(), Some("query"));
        let far = head.probabilities(&[0.45, 0.45, 1.0]).expect("fits");
        let best = (0..far.len()).max_by(|a, b| far[*a].total_cmp(&far[*b])).expect("some");
        let expect = if cross { "cross true" } else { "true true" };
        if accuracy > 0.8 {
            assert_eq!(head.labels[best], expect);
        }
    };
    check(Kind::Logistic, false, 0.95, 1.0);
    check(Kind::Logistic, true, 0.3, 0.7);
    check(Kind::Mlp, false, 0.95, 1.0);
    check(Kind::Mlp, true, 0.93, 1.0);
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    for kind in Kind::ALL {
        let of = |threads, seed| {
            trained(false, &Options { kind, threads, seed, units: 8, ..Options::default() })
        };
        let one = of(1, 1);
        assert_eq!(one, of(3, 1), "{kind:?}");
        assert_ne!(one.calibration, of(1, 2).calibration, "{kind:?}");
    }
}

#[test]
fn what_nothing_can_be_learned_from_is_refused() {
    let check = |vectors: &[Vec<f32>], labels: &[&str], words: &str| {
        let labels: Vec<String> = labels.iter().map(|it| (*it).to_owned()).collect();
        let set = Set::new(vectors, &labels);
        let told = set.and_then(|set| train(&set, "e", None, &Options::default()));
        let why = told.expect_err("is refused").0;
        assert!(why.contains(words), "{why}");
    };
    check(&[], &[], "no vectors");
    check(&[vec![1.0], vec![1.0, 2.0]], &["a", "b"], "not as long");
    check(&[vec![1.0]], &["a", "b"], "not as many");
    check(&[vec![f32::NAN]], &["a"], "no number");
    check(&[vec![1.0], vec![2.0]], &["a", "a"], "at least two");
    check(&[vec![1.0], vec![2.0], vec![3.0]], &["a", "a", "b"], "\"b\" has one row");
    // Two rows a label are enough for two parts, and equal vectors for a head that knows nothing.
    let labels = ["a", "a", "b", "b"].map(str::to_owned);
    let set = Set::new(&vec![vec![1.0]; 4], &labels).expect("is a set");
    for kind in Kind::ALL {
        let told = train(&set, "e", None, &Options { kind, ..Options::default() }).expect("trains");
        assert_eq!(told.folds, 2);
        let even = told.head.probabilities(&[1.0]).expect("fits");
        assert!(even.iter().all(|it| it.is_finite()), "{even:?}");
    }
}
