use ingle_engine::*;
use ingle_protocol::*;
use std::io::BufRead;
use std::time::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let options = Options { threads: Some(2), ..Options::default() };
    let t = Instant::now();
    let encoder = Encoder::open("m", args[1].as_ref(), &options, &mut |_| {}).unwrap();
    eprintln!("load {:?} {:?}", t.elapsed(), encoder.reads());
    let lines: Vec<String> = std::io::stdin().lock().lines().map(|l| l.unwrap()).collect();
    let reps: usize = args.get(2).map_or(1, |n| n.parse().unwrap());
    let enc = Encoding {
        inputs: lines.iter().map(Passage::text).collect(),
        long: Long::KeepStart(None),
        ..Encoding::default()
    };
    let mut last = None;
    for _ in 0..reps {
        let t = Instant::now();
        let out = encoder
            .encode(
                &enc,
                &Arrival {
                    at: Instant::now(),
                    load: Duration::ZERO,
                    cancelled: Default::default(),
                },
            )
            .unwrap();
        let s = t.elapsed().as_secs_f64();
        eprintln!(
            "{:.1} texts/s {:.0} tok/s",
            lines.len() as f64 / s,
            out.receipt.usage.prompt_tokens as f64 / s
        );
        last = Some(out);
    }
    for r in last.unwrap().read {
        if let Output::Vector(v) = r.output {
            println!("{:?}", v);
        }
    }
}
