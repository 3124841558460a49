//! Files, as OpenAI's API has them: an upload goes to the disk as it comes, and its contents leave
//! from there piece by piece. Absent: what a file is for, beyond a word.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::stream;
use http_body_util::BodyExt;
use ingle_protocol::Fault;
use ingle_protocol::wire::Kind;
use ingle_protocol::wire::openai::{self, FileLine};
use ingle_records::{Deleted, FileRecord, Kept, Listed, Page, Records, Upload};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Outcome, blocking, json_response};
use crate::State;
use crate::form::{Form, Piece};
use crate::front::fresh_id;
use crate::keys::Owner;
use crate::origin::kept_all;
use crate::records::{failed, now_s, records};
use crate::refusal::Refusal;

/// Contents that are gathered before they are written, and read at once.
const PIECE: usize = 256 << 10;
/// The most bytes of a form's field that is no file.
const FIELD_MOST: usize = 1024;
/// The most bytes of what a form has beside its file.
const FORM_MOST: u64 = 64 << 10;
/// The longest list.
const LIST_MOST: u32 = 10_000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/files", get(list).post(upload))
        .route("/v1/files/{id}", get(retrieve).delete(delete))
        .route("/v1/files/{id}/content", get(content))
}

fn line(file: &FileRecord) -> FileLine<'_> {
    FileLine {
        id: &file.id,
        bytes: file.bytes,
        created_s: file.created_s,
        expires_s: file.expires_s,
        name: &file.name,
        purpose: &file.purpose,
    }
}

fn unknown(id: &str) -> Refusal {
    let id: String = id.chars().take(64).collect();
    Refusal::new(Kind::NoRecord, format!("there is no file {id:?} of yours")).at("id")
}

/// A list's parameters, of which `more` may be given beside those of pages; unknown ones are
/// refused by name.
pub(super) struct Wanted(BTreeMap<String, String>);

impl Wanted {
    pub(super) fn read(
        Query(pairs): Query<Vec<(String, String)>>,
        more: &[&str],
    ) -> Result<Self, Refusal> {
        let known =
            |name: &str| ["after", "limit", "order"].contains(&name) || more.contains(&name);
        if let Some((name, _)) = pairs.iter().find(|pair| !known(&pair.0)) {
            let name: String = name.chars().take(64).collect();
            return Err(Refusal::new(Kind::Invalid, format!("'{name}' is unknown here")).at(&name));
        }
        Ok(Self(pairs.into_iter().collect()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn page(&self, usual: u32, most: u32) -> Result<Page<'_>, Fault> {
        let limit = self.get("limit").map_or(Some(usual), |text| text.parse().ok());
        let Some(limit) = limit.filter(|limit| (1..=most).contains(limit)) else {
            return Err(Fault::caller(format!("'limit' must be from 1 to {most}")).at("limit"));
        };
        let newest_first = match self.get("order") {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(_) => return Err(Fault::caller("'order' must be 'asc' or 'desc'").at("order")),
        };
        Ok(Page { after: self.get("after"), limit, newest_first })
    }
}

/// Rows of a kind; none where the page begins behind what is not there.
type Rows<T> = ingle_records::Result<Option<Listed<T>>>;

/// What of its kind is the owner's, as a list's parameters ask: `usual` rows where they do not say
/// how many, at most `most`.
pub(super) async fn listed<T: Send + 'static>(
    state: &State,
    owner: Owner,
    wanted: Wanted,
    (usual, most): (u32, u32),
    read: fn(&Records, &str, &Wanted, &Page<'_>) -> Rows<T>,
) -> Result<Listed<T>, Refusal> {
    let records = records(state)?;
    let found = blocking(move || {
        let page = wanted.page(usual, most)?;
        read(&records, owner.home(), &wanted, &page).map_err(failed)
    });
    let no_such_place = || Refusal::new(Kind::NoRecord, "'after' is nothing of yours").at("after");
    found.await?.ok_or_else(no_such_place)
}

async fn list(
    Shared(state): Shared<Arc<State>>,
    query: Query<Vec<(String, String)>>,
    request: Request,
) -> Outcome {
    let wanted = Wanted::read(query, &["purpose"])?;
    let listed = listed(
        &state,
        Owner::of(&request)?,
        wanted,
        (LIST_MOST, LIST_MOST),
        |all, home, wanted, page| all.files(home, wanted.get("purpose"), page),
    );
    let listed = listed.await?;
    let lines: Vec<FileLine<'_>> = listed.rows.iter().map(line).collect();
    Ok(json_response(StatusCode::OK, openai::write_files(&lines, listed.more)))
}

async fn find(state: &State, owner: &Owner, id: &str) -> Result<FileRecord, Refusal> {
    let (records, owner, wanted) = (records(state)?, owner.clone(), id.to_owned());
    let found = blocking(move || records.file(owner.home(), &wanted).map_err(failed)).await?;
    found.ok_or_else(|| unknown(id))
}

async fn retrieve(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let file = find(&state, &Owner::of(&request)?, &id).await?;
    Ok(json_response(StatusCode::OK, openai::write_file(&line(&file))))
}

async fn delete(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let (owner, records, wanted) = (Owner::of(&request)?, records(&state)?, id.clone());
    let deleted = blocking(move || records.delete_file(owner.home(), &wanted).map_err(failed));
    match deleted.await? {
        Deleted::Yes => Ok(json_response(StatusCode::OK, openai::write_deleted(&id))),
        Deleted::Unknown => Err(unknown(&id)),
        Deleted::InUse(batch) => {
            let message = format!("{batch} still reads it: cancel that first, or wait for its end");
            Err(Refusal::new(Kind::Conflict, message).at("id"))
        }
    }
}

async fn content(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Outcome {
    let known = find(&state, &Owner::of(&request)?, &id).await?;
    let records = records(&state)?;
    let file = blocking(move || records.open_file(&id).map_err(failed)).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, known.bytes.to_string()),
        // No page of a browser may take it for something to run.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(pieces(file))).into_response())
}

/// A file's contents, read off the async threads.
fn pieces(file: File) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(file, async |mut file| {
        let read = spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(PIECE);
            (&mut file).take(PIECE as u64).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>((file, bytes))
        });
        let (file, bytes) = read.await.map_err(std::io::Error::other)??;
        Ok((!bytes.is_empty()).then(|| (bytes.into(), file)))
    })
}

/// What a form has said so far.
struct Draft {
    records: Arc<Records>,
    fields: BTreeMap<String, Vec<u8>>,
    upload: Option<Upload>,
    name: String,
    /// Contents that were not written yet.
    pending: Vec<u8>,
    /// The field whose contents come; `None` is the file.
    field: Option<String>,
    file_most: u64,
}

impl Draft {
    async fn take(&mut self, piece: Piece) -> Result<(), Refusal> {
        match piece {
            Piece::Head { name, file } if name == "file" => {
                if self.upload.is_some() {
                    return Err(Refusal::new(Kind::Invalid, "one file at a time").at("file"));
                }
                let records = Arc::clone(&self.records);
                let id = format!("file-{}", fresh_id());
                self.upload = Some(blocking(move || records.upload(&id).map_err(failed)).await?);
                self.name = file.unwrap_or_default().chars().take(255).collect();
                self.field = None;
            }
            Piece::Head { name, .. } => {
                let known = ["purpose", "expires_after[anchor]", "expires_after[seconds]"];
                if !known.contains(&name.as_str()) {
                    let name: String = name.chars().take(64).collect();
                    let message = format!("'{name}' is an unknown field");
                    return Err(Refusal::new(Kind::Invalid, message).at(&name));
                }
                self.fields.insert(name.clone(), Vec::new());
                self.field = Some(name);
            }
            Piece::Data(data) => return self.data(data).await,
            Piece::End => {}
        }
        Ok(())
    }

    async fn data(&mut self, mut data: Vec<u8>) -> Result<(), Refusal> {
        let Some(name) = &self.field else {
            self.pending.append(&mut data);
            return if self.pending.len() >= PIECE { self.write().await } else { Ok(()) };
        };
        let field = self.fields.entry(name.clone()).or_default();
        field.append(&mut data);
        if field.len() > FIELD_MOST {
            let message = format!("'{name}' has more than {FIELD_MOST} bytes");
            return Err(Refusal::new(Kind::Invalid, message).at(name));
        }
        Ok(())
    }

    /// Brings what is pending to the file.
    async fn write(&mut self) -> Result<(), Refusal> {
        let bytes = std::mem::take(&mut self.pending);
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        if upload.bytes() + bytes.len() as u64 > self.file_most {
            let message = format!("the file has more than {} bytes", self.file_most);
            return Err(Refusal::new(Kind::TooLarge, message).at("file"));
        }
        let written = blocking(move || {
            upload.write(&bytes).map_err(failed)?;
            Ok(upload)
        });
        self.upload = Some(written.await?);
        Ok(())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|bytes| std::str::from_utf8(bytes).unwrap_or_default())
    }

    /// The file that the form describes, and its contents.
    fn finish(mut self, owner: &Owner) -> Result<(Upload, FileRecord), Refusal> {
        let missing =
            |name: &str| Refusal::new(Kind::Invalid, format!("the form has no '{name}'")).at(name);
        let upload = self.upload.take().ok_or_else(|| missing("file"))?;
        let purpose = self.text("purpose").ok_or_else(|| missing("purpose"))?;
        let purpose = openai::read_purpose(purpose)?;
        let created_s = now_s();
        let seconds = self.text("expires_after[seconds]");
        let expires_s = match (self.text("expires_after[anchor]"), seconds) {
            (None, None) => None,
            (anchor, seconds) => {
                let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(0);
                let anchor = anchor.unwrap_or_default();
                Some(created_s + openai::read_expiry("expires_after", anchor, seconds)?)
            }
        };
        let file = FileRecord {
            id: String::new(),
            owner: owner.home().to_owned(),
            purpose: purpose.to_owned(),
            name: std::mem::take(&mut self.name),
            bytes: upload.bytes(),
            created_s,
            expires_s,
            origin: Some(kept_all(&owner.origin())),
        };
        Ok((upload, file))
    }
}

/// A page of a foreign origin can send a form without asking first; what it may not read it may
/// not fill the disk with either.
pub(super) fn check_origin(state: &State, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let known = &state.config().cors_origins;
    if known.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
        return Ok(());
    }
    Err(Refusal::new(Kind::Forbidden, "pages of this origin may not call; see --cors-origin"))
}

async fn upload(Shared(state): Shared<Arc<State>>, request: Request) -> Outcome {
    let owner = Owner::of(&request)?;
    check_origin(&state, request.headers())?;
    let limits = state.config().limits.clone();
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let Some(mut form) = kind.and_then(Form::of) else {
        let message = "the body must be a form: send 'Content-Type: multipart/form-data'";
        return Err(Refusal::new(Kind::MediaType, message));
    };
    let mut draft = Draft {
        records: records(&state)?,
        fields: BTreeMap::new(),
        upload: None,
        name: String::new(),
        pending: Vec::new(),
        field: None,
        file_most: limits.file_bytes,
    };
    let (mut body, mut came) = (request.into_body(), 0);
    loop {
        let frame = match timeout(limits.body_read, body.frame()).await {
            Err(_) => return Err(Refusal::new(Kind::Slow, "the body did not arrive in time")),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let message = format!("the body did not arrive whole: {error}");
                return Err(Refusal::new(Kind::Invalid, message));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        came += bytes.len() as u64;
        if came > limits.file_bytes + FORM_MOST {
            let message = format!("the form has more than {} bytes", limits.file_bytes);
            return Err(Refusal::new(Kind::TooLarge, message).at("file"));
        }
        form.push(&bytes);
        let bad = |bad: crate::form::Bad| Refusal::new(Kind::Invalid, bad.to_string());
        while let Some(piece) = form.next().map_err(bad)? {
            draft.take(piece).await?;
        }
    }
    if !form.whole() {
        return Err(Refusal::new(Kind::Invalid, "the form ends in the middle of a part"));
    }
    draft.write().await?;
    keep(&state, &owner, draft).await
}

async fn keep(state: &State, owner: &Owner, draft: Draft) -> Outcome {
    let limits = state.config().limits.files;
    let records = Arc::clone(&draft.records);
    let (upload, file) = draft.finish(owner)?;
    let file = FileRecord { id: upload.id().to_owned(), ..file };
    let told = openai::write_file(&line(&file));
    match blocking(move || records.keep(upload, &file, limits).map_err(failed)).await? {
        Kept::Yes => Ok(json_response(StatusCode::OK, told)),
        Kept::TooMany => {
            let message = format!("you have {} files, the most allowed: delete some", limits.count);
            Err(Refusal::new(Kind::TooLarge, message))
        }
        Kept::TooLarge => {
            let message = format!("your files may have {} bytes: delete some", limits.bytes);
            Err(Refusal::new(Kind::TooLarge, message))
        }
    }
}
