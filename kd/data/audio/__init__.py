"""Audio: word-labelled utterances as filterbank features."""

from kd.data.audio.features import Utterance
from kd.data.audio.speech import load_speech, speech_fingerprint

__all__ = [
    "Utterance",
    "load_speech",
    "speech_fingerprint",
]
