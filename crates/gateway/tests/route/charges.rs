//! What a call counts as in budgets: while its process runs, and for one that comes after it and
//! has its entry alone.

use ingle_gateway::budget::Amount;
use ingle_protocol::Charge;

use crate::calls::{POLICY, asks};
use crate::house::House;
use crate::upstream::{React, end, head, part, piece};

/// Of money and of tokens, of all and of each model; this machine's tokens count, too.
const BUDGETS: &str = "[budgets.all]\nscope = \"all\"\nper = \"day\"\nusd = 1\nlocal = true\n\
                       [budgets.each]\nscope = \"model\"\nper = \"forever\"\ntokens = 1000000\n\
                       local = true\n";

fn house() -> House {
    House::new(&format!("{POLICY}{BUDGETS}"))
}

/// An answer whose provider says that it took so many tokens.
fn says(prompt: u32, completion: u32) -> React {
    let usage = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n\
         data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\
         \"completion_tokens\":{completion}}}}}\n\ndata: [DONE]\n\n"
    );
    React::Do(vec![head(), piece("one"), part(usage), end()])
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_claims_beyond_what_was_held_stands_beside_it() {
    let check = async |prompt: u32, completion: u32| {
        let house = house();
        let decision = house.gateway.explain(&asks("far")).expect("it is decided");
        let hold = decision.outcome.expect("it may go")[0].hold();
        house.stage.script("a", [says(prompt, completion)]);
        let said = house.ask(asks("far")).await;
        let told = u64::from(prompt) + u64::from(completion);
        // Each token costs a micro-dollar.
        let (most, beyond) = (told.min(hold.tokens), told.saturating_sub(hold.tokens));
        let charge = Charge {
            provider: "a".into(),
            model: "m".into(),
            at_ms: said.entry.at_ms,
            micros: most,
            tokens: most,
            beyond_micros: beyond,
            beyond_tokens: beyond,
        };
        assert_eq!(said.entry.charges, Some(vec![charge]));
        assert_eq!((said.entry.cost.micros, said.entry.usage.total()), (Some(most), told));
        let charged = Amount { micros: most, tokens: most };
        assert_eq!(house.spent("all"), (charged, Amount::default()));
        let receipt = said.end.expect("it is answered");
        assert_eq!(receipt.cost_micros, most);
        let notes = receipt.notes.iter().filter(|note| note.contains("beyond")).count();
        assert_eq!(notes, usize::from(beyond > 0), "{:?}", receipt.notes);
    };
    check(7, 3).await;
    check(7, 4_000_000).await;
    check(4_000_000, 3).await;
}
