//! The adapters of a server's models: which file each is, which requests mean which, and loading
//! and unloading them while models come and go. An adapter's name is a model's name to those who
//! ask, alone or behind its model's and a colon; so no two of either are the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ingle_engine::{AdapterFile, Footprint, Options, Stage};
use ingle_gateway::{AdapterCard, ModelCard};
use ingle_protocol::{Adapter, Blame, Fault, Request, Which};

use super::models::Models;
use super::start::checked;

/// One adapter, and how much of it requests get that say nothing of it.
#[derive(Clone, Debug)]
struct Kept {
    file: AdapterFile,
    scale: f32,
}

/// All of them, by their model's name. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Adapters(Arc<Mutex<BTreeMap<String, Vec<Kept>>>>);

impl Adapters {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A model's, as its loader takes them.
    pub(super) fn files(&self, model: &str) -> Vec<AdapterFile> {
        self.all().get(model).into_iter().flatten().map(|kept| kept.file.clone()).collect()
    }

    /// Adds one, of which requests get nothing that do not ask for it.
    pub(super) fn push(&self, model: &str, file: AdapterFile) {
        self.all().entry(model.to_owned()).or_default().push(Kept { file, scale: 0.0 });
    }

    fn remove(&self, model: &str, name: &str) {
        self.all().entry(model.to_owned()).or_default().retain(|kept| kept.file.name != name);
    }

    /// The model of an adapter.
    fn model_of(&self, name: &str) -> Option<String> {
        let all = self.all();
        let has = |kept: &[Kept]| kept.iter().any(|kept| kept.file.name == name);
        all.iter().find(|(_, kept)| has(kept)).map(|(model, _)| model.clone())
    }

    /// The model and the adapter that a name means, if it is an adapter's: `NAME` or `MODEL:NAME`.
    pub(super) fn meant(&self, name: &str) -> Option<(String, String)> {
        if let Some(model) = self.model_of(name) {
            return Some((model, name.to_owned()));
        }
        let (model, adapter) = name.rsplit_once(':')?;
        (self.model_of(adapter)? == model).then(|| (model.to_owned(), adapter.to_owned()))
    }

    /// As they are listed, in the order of their numbers.
    pub(super) fn cards(&self, model: &str) -> Vec<AdapterCard> {
        let all = self.all();
        let card = |kept: &Kept| AdapterCard {
            name: kept.file.name.clone(),
            file: kept.file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            scale: kept.scale,
        };
        all.get(model).into_iter().flatten().map(card).collect()
    }

    /// Says how much of which a model's requests get that say nothing; none of the others.
    pub(super) fn scale(&self, model: &str, scales: &[Adapter]) -> Result<(), Fault> {
        let mut all = self.all();
        let kept = all.entry(model.to_owned()).or_default();
        let found = scales.iter().map(|wanted| {
            let own = |(at, kept): (usize, &Kept)| match &wanted.which {
                Which::Name(name) => kept.file.name == *name,
                Which::Number(number) => *number == at,
            };
            let at = kept.iter().enumerate().position(own);
            let message = || format!("`{model}` has {} adapters, and not this one", kept.len());
            at.map(|at| (at, wanted.scale)).ok_or_else(|| Fault::caller(message()).at("lora"))
        });
        let found: Vec<(usize, f32)> = found.collect::<Result<_, _>>()?;
        kept.iter_mut().for_each(|kept| kept.scale = 0.0);
        found.into_iter().for_each(|(at, scale)| kept[at].scale = scale);
        Ok(())
    }

    /// Puts a request to its model, with the adapters that it means, by their names.
    /// `model` says whether its name is a model's own.
    pub(super) fn apply(&self, request: &mut Request, model: bool) -> Result<(), Fault> {
        let meant = if model { None } else { self.meant(&request.model) };
        if let Some((model, adapter)) = meant {
            if request.adapters.is_some() {
                let message = "the model is an adapter already: name its model to ask for others";
                return Err(Fault::caller(message).at("lora"));
            }
            request.model = model;
            request.adapters = Some(vec![Adapter::named(&adapter)]);
            return Ok(());
        }
        let all = self.all();
        let kept = all.get(&request.model).map(Vec::as_slice).unwrap_or_default();
        let named = |kept: &Kept, scale| Adapter { scale, ..Adapter::named(&kept.file.name) };
        match &mut request.adapters {
            None => {
                let usual = kept.iter().filter(|kept| kept.scale != 0.0);
                request.adapters = Some(usual.map(|kept| named(kept, kept.scale)).collect());
            }
            // A number means what is listed now.
            Some(wanted) => wanted.iter_mut().for_each(|one| {
                if let Which::Number(at) = one.which
                    && let Some(kept) = kept.get(at)
                {
                    *one = named(kept, one.scale);
                }
            }),
        }
        Ok(())
    }
}

impl Models {
    /// An adapter, as a model that can be asked for.
    pub(super) fn adapter_cards(&self, card: &ModelCard) -> impl Iterator<Item = ModelCard> {
        let cards = self.adapters.cards(&card.name).into_iter();
        let card = card.clone();
        cards.map(move |adapter| ModelCard {
            name: adapter.name,
            parent: Some(card.name.clone()),
            size_bytes: 0,
            sha256: String::new(),
            memory_bytes: 0,
            ..card.clone()
        })
    }

    /// The engine's options for a model, with these adapters.
    pub(super) fn options_with(&self, adapters: Vec<AdapterFile>) -> Options {
        Options { adapters, ..self.options.clone() }
    }

    /// What a model takes with these adapters, which all have to fit it.
    fn footprint_with(&self, model: &str, adapters: Vec<AdapterFile>) -> Result<Footprint, Fault> {
        Footprint::of(&self.file(model)?, &self.options_with(adapters))
    }

    /// Loads an adapter beside a model, which is loaded too where it is not.
    pub(super) fn adapt(&self, model: &str, name: &str, path: &Path) -> Result<(), Fault> {
        let wrong = |message: String| Fault::caller(message).at("lora_name");
        checked(name).map_err(wrong)?;
        let _alone = self.adapting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((model, name)) = self.adapters.meant(name) {
            let message = format!("`{model}` has an adapter `{name}` already: unload it first");
            return Err(wrong(message));
        }
        if self.has(name) {
            return Err(wrong(format!("there is a model `{name}`: give the adapter another name")));
        }
        self.read(model)?;
        let file = AdapterFile { name: name.to_owned(), path: path.to_owned() };
        let mut files = self.adapters.files(model);
        files.push(file.clone());
        let blamed = |fault: Fault| Fault { blame: Blame::Caller, ..fault }.at("lora_path");
        let footprint = self.footprint_with(model, files).map_err(blamed)?;
        self.fleet().resize(model, footprint.memory.total())?;
        self.adapters.push(model, file);
        let loaded = self.fleet().with(model, |resident| {
            let local = resident.writer()?;
            // Whoever loaded the model just now took it along.
            let there = local.adapters().iter().any(|known| known == name);
            if there { Ok(()) } else { local.adapt(name, path) }
        });
        if let Err(fault) = loaded.and_then(|loaded| loaded) {
            self.forget(model, name)?;
            return Err(fault);
        }
        self.known(model, footprint);
        Ok(())
    }

    /// Unloads an adapter; answers under way go on with it.
    pub(super) fn unadapt(&self, name: &str) -> Result<(), Fault> {
        let _alone = self.adapting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((model, name)) = self.adapters.meant(name) else {
            return Err(Fault::caller(format!("`{name}` is no adapter")).at("lora_name"));
        };
        self.forget(&model, &name)?;
        let there = self.fleet().status(&model).map(|status| status.stage);
        if matches!(there, Some(Stage::Ready | Stage::Loading(_))) {
            // One that was loaded after the adapter was forgotten never had it.
            let unload = |local: &ingle_engine::Local| {
                let there = local.adapters().contains(&name);
                if there { local.unadapt(&name) } else { Ok(()) }
            };
            self.fleet().with(&model, |resident| resident.writer().and_then(unload))??;
        }
        Ok(())
    }

    /// Takes an adapter from a model's list, and its bytes from what the model takes.
    fn forget(&self, model: &str, name: &str) -> Result<(), Fault> {
        self.adapters.remove(model, name);
        let footprint = self.footprint_with(model, self.adapters.files(model))?;
        self.fleet().resize(model, footprint.memory.total())?;
        self.known(model, footprint);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapters() -> Adapters {
        let adapters = Adapters::default();
        for (model, name) in [("m", "a"), ("m", "b"), ("other", "c")] {
            let path = format!("/somewhere/{name}.gguf").into();
            adapters.push(model, AdapterFile { name: name.to_owned(), path });
        }
        adapters
    }

    #[test]
    fn names_mean_adapters_alone_and_behind_their_models() {
        let adapters = adapters();
        let check = |name: &str, expect: Option<(&str, &str)>| {
            let meant = adapters.meant(name);
            let meant = meant.as_ref().map(|(model, name)| (model.as_str(), name.as_str()));
            assert_eq!(meant, expect, "{name}");
        };
        check("a", Some(("m", "a")));
        check("m:a", Some(("m", "a")));
        check("other:c", Some(("other", "c")));
        check("m:c", None);
        check("m", None);
        check("m:", None);
        check(":a", None);
        check("d", None);
    }

    #[test]
    fn requests_get_what_they_name_or_what_is_usual() {
        let adapters = adapters();
        let check =
            |model: &str, wanted: Option<Vec<Adapter>>, expect: Option<Vec<(&str, f32)>>| {
                let mut request =
                    Request { model: model.to_owned(), adapters: wanted, ..Request::default() };
                let own = request.model == "m";
                let applied = adapters.apply(&mut request, own);
                let Some(expect) = expect else { return assert!(applied.is_err(), "{model}") };
                applied.expect(model);
                assert!(["m", "other"].contains(&request.model.as_str()));
                let expect: Vec<Adapter> = expect
                    .into_iter()
                    .map(|(name, scale)| Adapter { scale, ..Adapter::named(name) })
                    .collect();
                assert_eq!(request.adapters, Some(expect), "{model}");
            };
        let numbered = |at| Adapter { which: Which::Number(at), scale: 0.5 };
        check("m", None, Some(vec![]));
        check("m:b", None, Some(vec![("b", 1.0)]));
        check("c", None, Some(vec![("c", 1.0)]));
        check("a", Some(vec![]), None);
        check("m", Some(vec![numbered(1)]), Some(vec![("b", 0.5)]));
        let scale = |of: &[Adapter]| adapters.scale("m", of);
        scale(&[numbered(1)]).expect("is there");
        check("m", None, Some(vec![("b", 0.5)]));
        check("m", Some(vec![]), Some(vec![]));
        check("a", None, Some(vec![("a", 1.0)]));
        assert!(scale(&[Adapter::named("a"), numbered(2)]).is_err());
        check("m", None, Some(vec![("b", 0.5)])); // as before
        scale(&[Adapter::named("a")]).expect("is there");
        check("m", None, Some(vec![("a", 1.0)]));
        let cards = adapters.cards("m");
        assert_eq!((cards[0].file.as_str(), cards[0].scale, cards[1].scale), ("a.gguf", 1.0, 0.0));
    }
}
