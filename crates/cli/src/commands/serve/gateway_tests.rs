//! The ledger as a gateway's book: what it does where the ledger's line is full, and what callers
//! are told where it cannot be written.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use ingle_protocol::Retry;

use super::*;

/// A ledger that waits for its disk, whose tickets settle on a thread of its own, and its pages.
struct Scene {
    ledger: Arc<Ledger>,
    pages: Arc<Pages>,
    folder: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

fn entry(id: &str) -> Entry {
    Entry { id: id.to_owned(), at_ms: 5, ..Entry::default() }
}

/// Somebody to be told, and where that is heard.
fn kept() -> (Kept, Receiver<Result<(), Fault>>) {
    let (tell, told) = sync_channel(1);
    (Box::new(move |written| drop(tell.send(written))), told)
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("ingle-pages-{name}-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let options = Options { durability: Durability::Power, ..Options::default() };
        let ledger = Ledger::open(&Place::within(&folder), &options).expect("a ledger");
        let ledger = Arc::new(ledger);
        let step = Step::before(Arc::new(Memory::default()), runtime.handle().clone());
        let pages = Arc::new(Pages::new(&ledger, &Arc::new(step), None));
        Self { ledger, pages, folder, _runtime: runtime }
    }

    /// Does this on the ledger's own thread.
    fn within(&self, work: impl Fn() + Send + Sync + 'static) {
        let work = Arc::new(work);
        for number in 0_u64.. {
            let (here, (tell, told)) = (thread::current().id(), sync_channel(1));
            let work = Arc::clone(&work);
            let begun = self.ledger.begin(&entry(&format!("within {number}")), &[]);
            begun.expect("there is room").then(move |written| {
                written.expect("it can be written");
                // What was kept before this was asked for is told here.
                let there = thread::current().id() != here;
                if there {
                    work();
                }
                let _ = tell.send(there);
            });
            if told.recv().expect("it is told") {
                return;
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The thread that would have to wait is the one that makes room.
#[test]
fn a_full_line_is_waited_for_by_others_than_who_empties_it() {
    let scene = Scene::new("full");
    let (then, told) = kept();
    scene.pages.begin(&entry("a"), &[], then);
    told.recv().expect("it is told").expect("it can be written");
    let ends = [kept(), kept(), kept()];
    let (thens, tolds): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    let (ledger, pages) = (Arc::clone(&scene.ledger), Arc::clone(&scene.pages));
    let thens = Mutex::new(thens);
    scene.within(move || {
        while ledger.note(&entry("filler")).is_ok() {}
        let next = || thens.lock().expect("no panic").pop().expect("one for each");
        pages.amend(&entry("a"), &[], next());
        pages.begin(&entry("b"), &[], next());
        pages.begin(&entry("c"), &[], next());
    });
    for told in tolds {
        assert_eq!(told.recv().expect("it is told"), Ok(()));
    }
    let (then, told) = kept();
    scene.pages.end(&entry("a"), then);
    assert_eq!(told.recv().expect("it is told"), Ok(()));
}

/// Neither where a ledger is nor what is wrong with it is a caller's to know.
#[test]
fn what_cannot_be_kept_is_told_of_as_that() {
    let scene = Scene::new("inner");
    let check = |tell: &dyn Fn(Kept)| {
        let (then, told) = kept();
        tell(then);
        let fault = told.recv().expect("it is told").expect_err("it is not open");
        assert!(matches!(fault.retry, Retry::WhenReady(_)), "{fault:?}");
        assert!(fault.message.contains("finds why in its log"), "{fault}");
        assert!(!fault.message.contains("inner"), "{fault}");
    };
    check(&|then| scene.pages.end(&entry("a"), then));
    check(&|then| scene.pages.amend(&entry("a"), &[], then));
    let (then, told) = kept();
    scene.pages.begin(&entry("a"), &[], then);
    assert_eq!(told.recv().expect("it is told"), Ok(()));
    check(&|then| scene.pages.begin(&entry("a"), &[], then));
}
