//! What a Kontiki node decides between socket, cores and disk, as pure code
