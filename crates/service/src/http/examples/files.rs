//! Examples of files: one document of `auth0|test123`.

use super::{NOW, envelope, list, with};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "upload_file" | "complete_upload" => envelope("File uploaded successfully", uploaded()),
        "list_files" => files(),
        "get_file_info" => envelope("File retrieved successfully", file()),
        "delete_file" => envelope(
            "File deleted successfully",
            json!({"file_path": uploaded()["file_path"], "deleted": true}),
        ),
        "create_upload_url" => envelope("Upload address created successfully", upload_address()),
        _ => return None,
    })
}

fn uploaded() -> Value {
    json!({
        "file_id": "0198491a-9c5f-7b3e-8d2a-5f1e1a2b3c4d",
        "file_path": "users/auth0|test123/files/2025/07/document_20250727001126_1a2b3c4d.pdf",
        "file_name": "document.pdf",
        "download_url": "http://localhost:8100/files/users/auth0%7Ctest123/files/2025/07/\
            document_20250727001126_1a2b3c4d.pdf?expires=1753578686&signature=…",
        "file_size": 2_048_576, "content_type": "application/pdf",
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "etag": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "uploaded_at": NOW,
    })
}

fn file() -> Value {
    let mut file = uploaded();
    if let Some(members) = file.as_object_mut() {
        let at = members.remove("uploaded_at");
        members.extend(at.map(|at| ("last_modified".to_owned(), at)));
    }
    file
}

fn files() -> Value {
    let mut answer = list("Retrieved 1 files", file());
    answer["pagination"]["limit"] = json!(100);
    with(answer, "usage", json!({"files": 1, "bytes": 2_048_576, "quota": 1_073_741_824}))
}

fn upload_address() -> Value {
    let file = uploaded();
    json!({
        "file_id": file["file_id"], "file_path": file["file_path"],
        "upload_url": "http://localhost:8100/files/users/auth0%7Ctest123/files/2025/07/\
            document_20250727001126_1a2b3c4d.pdf?expires=1753576286&signature=…",
        "method": "PUT", "headers": {}, "expires_at": "2025-07-27T00:26:26.479685Z",
    })
}
