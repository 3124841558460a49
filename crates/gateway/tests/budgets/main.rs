//! Stores of budgets: the same suite for the one in memory and the one in a Redis server, and what
//! only the latter promises, to several processes and when it dies.

mod life;
mod proxy;
mod rates;
mod server;
mod shared;
mod spenders;
mod suite;

use ingle_gateway::budget::{Memory, Store};

use crate::server::Server;
use crate::suite::SUITE;

#[test]
fn memory_is_a_store() {
    for (name, check) in SUITE {
        println!("{name}");
        check(&|| Box::new(Memory::default()) as Box<dyn Store>);
    }
}

#[test]
fn a_redis_server_is_a_store() {
    let server = match Server::new(&["--appendonly", "no"]) {
        Ok(server) => server,
        Err(why) => {
            println!("\n!!! NOT CHECKED: budgets in Redis: {why}\n");
            return;
        }
    };
    for (name, check) in SUITE {
        println!("{name}");
        check(&|| Box::new(server.empty()) as Box<dyn Store>);
    }
    for (name, check) in shared::PROMISES {
        println!("{name}");
        server.empty();
        check(&server);
    }
}

#[test]
fn processes_do_not_spend_the_same_money() {
    match Server::new(&["--appendonly", "no"]) {
        Ok(server) => {
            spenders::all_live(&server);
            spenders::one_is_killed(&server);
            rates::processes(&server);
        }
        Err(why) => println!("\n!!! NOT CHECKED: processes that share budgets: {why}\n"),
    }
}

#[test]
fn what_a_server_forgets_is_noticed() {
    for (name, settings, check) in shared::DEATHS {
        println!("{name}");
        match Server::new(settings) {
            Ok(mut server) => check(&mut server),
            Err(why) => println!("\n!!! NOT CHECKED: the death of a Redis server: {why}\n"),
        }
    }
}

#[test]
fn a_connection_is_encrypted_where_its_url_says_so() {
    match Server::with_tls() {
        Ok((server, url)) => spenders::over_tls(&server, &url),
        Err(why) => println!("\n!!! NOT CHECKED: budgets over TLS: {why}\n"),
    }
}
