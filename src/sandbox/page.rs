//! The page that a person sees: what is stored, as plain HTML.

use std::fmt::Write as _;

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use bytesize::ByteSize;
use serde::Deserialize;

use super::answer::Refusal;
use super::front::App;
use super::store::Listing;
use crate::mirror;

/// Files that are listed of one directory.
const MOST_FILES: usize = 1000;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>dStor sandbox</title>\n<style>\n\
    :root{color-scheme:light dark;--line:#ddd;--quiet:#666}\n\
    @media(prefers-color-scheme:dark){:root{--line:#444;--quiet:#aaa}}\n\
    body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\n\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0;\
    border-bottom:1px solid var(--line);overflow-wrap:anywhere}td.n{text-align:right;white-space:nowrap}\n\
    p.q,td.q{color:var(--quiet)}code{font-size:.85em}\n</style>\n<h1>dStor sandbox</h1>\n\
    <p class=\"q\">A stand-in for dStor on this machine, for trying. Nothing here is on IPFS.</p>\n";

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    dir: String,
}

/// The page of the directory in `?dir=`, or of the root.
pub(super) fn show(app: &App, parts: &Parts) -> Result<Response, Refusal> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "there is no such directory");
    let Query(Asked { dir }) = Query::try_from_uri(&parts.uri).map_err(|_| missing())?;
    let dir = dir.trim_matches('/');
    let listing = app.store.list(dir, MOST_FILES).ok_or_else(missing)?;
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(page(dir, &listing))).into_response())
}

fn page(dir: &str, listing: &Listing) -> String {
    let mut out = String::from(HEAD);
    out.push_str("<h2>");
    link_to(&mut out, "", "/");
    for (at, _) in dir.match_indices('/').chain([(dir.len(), "")]).filter(|(at, _)| *at > 0) {
        let above = &dir[..at];
        link_to(&mut out, above, above.rsplit('/').next().unwrap_or(above));
        out.push('/');
    }
    out.push_str("</h2>\n<table>\n");
    // Writing to a String cannot fail, here and below.
    for (path, id) in &listing.directories {
        out.push_str("<tr><td>");
        link_to(&mut out, path, path.rsplit('/').next().unwrap_or(path));
        let _ = writeln!(out, "/<td class=n>directory<td class=q>no. {id}<td>");
    }
    for file in &listing.files {
        let _ = write!(out, "<tr><td>{}", shown(&file.name));
        if let Some(comment) = &file.comment {
            let _ = write!(out, "<br><small>{}</small>", shown(comment));
        }
        let _ = writeln!(
            out,
            "<td class=n>{size}<td class=q>{time}<td><a href=\"/ipfs/{hash}\"><code>{hash}</code></a>",
            size = ByteSize(file.size).display().iec(),
            time = file.stored_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
            hash = shown(&file.hash),
        );
    }
    out.push_str("</table>\n");
    if listing.directories.is_empty() && listing.files.is_empty() {
        out.push_str("<p>Nothing is stored here yet.</p>\n");
    }
    if listing.more > 0 {
        let _ = writeln!(out, "<p>and {} more files</p>", listing.more);
    }
    out
}

fn link_to(out: &mut String, dir: &str, name: &str) {
    out.push_str("<a href=\"/?dir=");
    for byte in dir.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    let _ = write!(out, "\">{}</a>", shown(name));
}

/// Text that is text in HTML, with nothing in it that acts unseen.
fn shown(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let _ = mirror::escape(text.as_bytes(), &mut plain);
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
