//! The API's description, for machines and for the page at `/docs`.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{commands, control, events, lease, state, vehicles};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Carriageway",
        description = "Watch and command vehicles. Errors are `application/problem+json` with a stable `type`."
    ),
    paths(
        vehicles::list,
        vehicles::show,
        vehicles::link,
        vehicles::signals,
        commands::submit,
        commands::show,
        lease::lease,
        lease::rearm,
        lease::show,
        control::open,
        state::show,
        state::patch,
        commands::cancel,
        events::stream
    ),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document at `/v1/openapi.json` and its page at `/docs`, both from within the binary.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let path = "/v1/openapi.json";
    // The page's validator badge would ask a server on the internet.
    let config = Config::new([path]).validator_url("none");
    SwaggerUi::new("/docs").url(path, document()).config(config).into()
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    Document::openapi()
}
