-- Whether the contents of a row are those that came: 0 where STORE_CONTENT was false, and they were emptied.

ALTER TABLE messages ADD COLUMN content_stored BIGINT NOT NULL DEFAULT 1;
ALTER TABLE session_memories ADD COLUMN content_stored BIGINT NOT NULL DEFAULT 1;
