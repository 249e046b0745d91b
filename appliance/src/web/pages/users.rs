//! Who may sign in. For administrators.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::{Confirm, Frame, TYPED, done, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::door::Person;
use crate::control::{Failed, Request as BoxRequest};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

#[derive(Template)]
#[template(path = "users.html")]
struct Users {
    frame: Frame,
    people: Vec<Person>,
    me: String,
    form: Form,
}

pub(super) async fn list(signed: Signed) -> Response {
    let form = signed.form().with("role", "viewer");
    page(&signed, form).await
}

async fn page(signed: &Signed, form: Form) -> Response {
    match signed.request::<Vec<Person>>(BoxRequest::AccountList).await {
        Ok(people) => {
            let (frame, me) = (Frame::of(signed, "users", "Users"), signed.person.user.clone());
            show_page(of_form(&form), &Users { frame, people, me, form })
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn add(Change { signed, mut form }: Change) -> Response {
    let user = form.needs("user", "The name to sign in with.");
    let password = form.value("password").to_owned();
    if password.is_empty() {
        form.wrong("password", "A first password is needed: tell it to nobody but its user, who changes it.");
    }
    let Some(role) = Role::named(form.value("role")) else {
        form.wrong(WHOLE, "Choose what the user may do.");
        return page(&signed, form).await;
    };
    if form.is_good() {
        match signed.request::<Value>(BoxRequest::AccountAdd { user, role, password }).await {
            Ok(_) => return done(&signed, "/users", "user"),
            Err(failed) if failed.kind == "signed-out" || failed.kind == "forbidden" => return refused(&failed),
            Err(failed) => form.failed(if failed.message.contains("password") { "password" } else { "user" }, &failed),
        }
    }
    page(&signed, form).await
}

pub(super) async fn remove_page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    confirm(&signed, &name, form)
}

fn confirm(signed: &Signed, name: &str, form: Form) -> Response {
    Confirm {
        frame: Frame::of(signed, "users", format!("Remove {name}?")),
        says: vec!["The sessions and tokens of this user end at once.".into()],
        action: format!("/users/{}/remove", show::part(name)),
        button: "Remove the user",
        back: "/users".into(),
        typed: Some(name.to_owned()),
        form,
    }
    .show()
}

pub(super) async fn remove(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    if form.text(TYPED) != name.trim() {
        form.wrong(TYPED, "This is not the name: nothing was done.");
        return confirm(&signed, &name, form);
    }
    let removed: Result<Value, Failed> = signed.request(BoxRequest::AccountRemove { user: name.clone() }).await;
    match removed {
        Ok(_) => done(&signed, "/users", "unuser"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            confirm(&signed, &name, form)
        }
        Err(failed) => refused(&failed),
    }
}
