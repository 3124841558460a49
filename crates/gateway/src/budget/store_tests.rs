//! The store in memory, asked by threads at once.

use std::sync::Arc;

use super::{Account, Amount, Claim, Memory, Store};
use crate::budget::{Limit, Period};

#[test]
fn threads_do_not_spend_the_same_money() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let account = Account { name: "all".into(), window: Period::Forever.window(0) };
    let limit = Limit { micros: Some(1_000), tokens: None };
    let claims = [Claim { account: account.clone(), limit }];
    let run = |thread: u32| {
        let (store, claims) = (Arc::clone(&store), claims.clone());
        std::thread::spawn(move || {
            let mut charged = 0;
            for call in 0..500 {
                let id = format!("{thread}.{call}");
                let worst = Amount { micros: 7, tokens: 1 };
                if store.reserve(&id, worst, &claims, 1).is_err() {
                    continue;
                }
                store.sent(&id).expect("it is open");
                if call % 3 == 0 {
                    store.release(&id).expect("it is open");
                } else {
                    let took = Some(Amount { micros: call % 7, tokens: 1 });
                    charged += store.settle(&id, took).expect("it is open").charged.micros;
                }
            }
            charged
        })
    };
    let threads: Vec<_> = (0..4).map(run).collect();
    let charged: u64 = threads.into_iter().map(|it| it.join().expect("no panic")).sum();
    let standing = store.standings(&[account]).expect("it is here")[0];
    assert_eq!(standing.spent.micros, charged);
    assert!(charged > 900 && charged <= 1_000, "{charged}");
    assert_eq!((standing.reserved, standing.calls), (Amount::default(), 0));
}
