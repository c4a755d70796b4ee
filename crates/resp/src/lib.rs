//! RESP2 and RESP3 codec: incremental and bounded
