"""Audio: word-labelled utterances as filterbank features."""
