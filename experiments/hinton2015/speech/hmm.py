"""Hidden Markov models of words: a flat start, Viterbi alignment and decoding. Pure functions.

Every word is a chain of states from left to right, silence another; a state belongs to one chain
only. Axes: ``u`` utterances, ``t`` frames (padded), ``s`` states (the classes of the acoustic
model), ``g`` nodes of a network.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_OPTIONAL = np.log(0.5)  # a silence is there as often as not


@dataclasses.dataclass(frozen=True)
class Topology:
    """State k of word w is number ``w * per_word + k``; the states of silence come last."""

    words: int
    per_word: int
    silence: int

    @property
    def states(self) -> int:
        """Number of states in all: the classes of the acoustic model."""
        return self.words * self.per_word + self.silence


class Network(NamedTuple):
    """Chains of nodes in a row, and a junction: log probabilities, ``[g]`` each, -inf where there
    is no way.

    A path begins at a node (`start`), at every frame stays, goes on to the next node (`advance`),
    or goes through the junction (`leave` one chain, `enter` another), and may end where it may
    leave. `state` is a node's HMM state.
    """

    state: Any
    start: Any
    stay: Any
    advance: Any
    leave: Any
    enter: Any


class Path(NamedTuple):
    """The best path: nodes ``[t]``, the frames at which a chain was entered ``[t]``, and its log
    probability.
    """

    nodes: Any
    entered: Any
    score: Any


def viterbi(network: Network, scores: Any, length: Any) -> Path:
    """The most probable path of one utterance through a network.

    Shapes: ``scores[t g]`` log likelihood of every frame at every node; frames from `length` on are
    padding, and the path stays where it is.

    Source: Viterbi (1967); Rabiner (1989), "A tutorial on hidden Markov models", section III.
    """

    def forward(
        best: jax.Array, frame: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        t, score = frame
        out = best + network.leave
        onward = jnp.roll(best + network.advance, 1).at[0].set(-jnp.inf)
        ways = jnp.stack([best + network.stay, onward, jnp.max(out) + network.enter])
        alive = t < length
        best = jnp.where(alive, jnp.max(ways, axis=0) + score, best)
        return best, (jnp.where(alive, jnp.argmax(ways, axis=0), 0), jnp.argmax(out))

    def backward(
        node: jax.Array, ways: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        way, left = ways[0][node], ways[1]
        return jnp.where(way == 2, left, node - (way == 1)), (node, way == 2)

    rest = jnp.arange(1, len(scores)), scores[1:]
    last, ways = jax.lax.scan(forward, network.start + scores[0], rest)
    end = jnp.argmax(last + network.leave)
    first, (nodes, entered) = jax.lax.scan(backward, end, ways, reverse=True)
    nodes = jnp.concatenate([first[None], nodes])
    return Path(nodes, jnp.concatenate([jnp.ones(1, bool), entered]), jnp.max(last + network.leave))


@functools.partial(jax.jit, static_argnames="shared")
def _search(networks: Network, likelihoods: jax.Array, lengths: jax.Array, shared: bool) -> Path:
    """`viterbi` for every utterance; one network for all of them if `shared`, else one each."""

    def one(network: Network, likelihood: jax.Array, length: jax.Array) -> Path:
        return viterbi(network, likelihood[:, network.state], length)

    return jax.vmap(one, in_axes=(None if shared else 0, 0, 0))(networks, likelihoods, lengths)


def align(
    topology: Topology,
    stay: np.ndarray,
    likelihoods: np.ndarray,
    lengths: np.ndarray,
    words: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Forced alignment: the state of every frame ``[u t]`` given the word that was said, and log
    probabilities ``[u]``.

    Shapes: ``stay[s]`` probability of staying, ``likelihoods[u t s]`` scaled log likelihoods,
    ``lengths[u]``, ``words[u]``. An utterance is a silence or none, the word, a silence or none; it
    needs a frame per state.
    """
    networks = spoken_word(topology, stay, words)
    path = _search(networks, likelihoods, lengths, False)
    return np.take_along_axis(networks.state, np.asarray(path.nodes), axis=1), np.asarray(
        path.score
    )


def decode(
    topology: Topology,
    stay: np.ndarray,
    likelihoods: np.ndarray,
    lengths: np.ndarray,
    penalty: float,
) -> list[list[int]]:
    """The words of every utterance: any number of words and silences in any order, found by
    Viterbi.

    `penalty` is subtracted from the log probability of every word; it balances words that are
    inserted and missed. Shapes as in `align`.
    """
    path = _search(word_loop(topology, stay, penalty), likelihoods, lengths, True)
    nodes, entered = np.asarray(path.nodes), np.asarray(path.entered)
    begins = entered & (nodes < topology.words * topology.per_word)
    return [
        (row[where] // topology.per_word).tolist() for row, where in zip(nodes, begins, strict=True)
    ]


def spoken_word(topology: Topology, stay: np.ndarray, words: np.ndarray) -> Network:
    """For each utterance, the network of [silence] word [silence]. Shapes: leaves ``[u g]``."""
    silence = np.arange(topology.silence) + topology.words * topology.per_word
    word = words[:, None] * topology.per_word + np.arange(topology.per_word)
    around = np.broadcast_to(silence, (len(words), topology.silence))
    state = np.concatenate([around, word, around], axis=1)
    first, last = topology.silence, topology.silence + topology.per_word - 1
    stays, goes = np.log(stay)[state], np.log1p(-stay)[state]
    start, leave = np.full(state.shape, -np.inf), np.full(state.shape, -np.inf)
    start[:, [0, first]] = _OPTIONAL
    leave[:, last], leave[:, -1] = goes[:, last] + _OPTIONAL, goes[:, -1]
    advance = goes.copy()
    advance[:, last] += _OPTIONAL
    advance[:, -1] = -np.inf
    return _network(state, start, stays, advance, leave, np.full(state.shape, -np.inf))


def word_loop(topology: Topology, stay: np.ndarray, penalty: float) -> Network:
    """Words and silences in any order, all words equally probable. Shapes: leaves ``[s]``; a node
    is a state.
    """
    spoken = topology.words * topology.per_word
    firsts = np.arange(0, spoken, topology.per_word)
    enter = np.full(topology.states, -np.inf)
    enter[firsts], enter[spoken] = _OPTIONAL - np.log(topology.words) - penalty, _OPTIONAL
    lasts = np.append(firsts + topology.per_word - 1, topology.states - 1)
    leave, advance = np.full(topology.states, -np.inf), np.log1p(-stay)
    leave[lasts], advance[lasts] = advance[lasts], -np.inf
    return _network(np.arange(topology.states), enter, np.log(stay), advance, leave, enter)


def _network(state: np.ndarray, *logs: np.ndarray) -> Network:
    return Network(state.astype(np.int32), *(log.astype(np.float32) for log in logs))


def flat_start(
    topology: Topology, energy: np.ndarray, lengths: np.ndarray, words: np.ndarray
) -> np.ndarray:
    """First alignment, by energy alone: the state of every frame ``[u t]``, -1 in the padding.

    The word is taken to last from the first to the last frame whose energy lies above the middle of
    the utterance's 10th and 90th percentile (and for a frame per state at least); it is cut into
    equal states, and so is the silence before and behind. Shapes: ``energy[u t]``, ``lengths[u]``,
    ``words[u]``.
    """
    table = np.full(energy.shape, -1)
    for row, (length, word) in enumerate(zip(lengths, words, strict=True)):
        begin, end = _energetic(energy[row, :length], topology.per_word)
        silence = topology.words * topology.per_word
        table[row, :begin] = silence + _equal(begin, topology.silence)
        table[row, begin:end] = word * topology.per_word + _equal(end - begin, topology.per_word)
        table[row, end:length] = silence + _equal(length - end, topology.silence)
    return table


def _energetic(energy: np.ndarray, least: int) -> tuple[int, int]:
    loud = np.flatnonzero(energy >= np.percentile(energy, [10, 90]).mean())
    begin, end = int(loud[0]), int(loud[-1]) + 1
    begin = max(min(begin, len(energy) - least), 0)
    return begin, min(max(end, begin + least), len(energy))


def _equal(frames: int, parts: int) -> np.ndarray:
    return np.arange(frames) * parts // max(frames, 1)


def staying(states: np.ndarray, topology: Topology) -> np.ndarray:
    """Probability of staying in each state for another frame, as counted in an alignment: ``[s]``,
    within [0.05, 0.99].

    Shapes: ``states[u t]`` with -1 in the padding.
    """
    before = np.concatenate([np.full((len(states), 1), -1), states[:, :-1]], axis=1)
    frames, visits = (
        np.bincount(states[where & (states >= 0)], minlength=topology.states)
        for where in (states >= 0, states != before)
    )
    return np.clip(1 - (visits + 0.5) / (frames + 1), 0.05, 0.99)


def log_priors(states: np.ndarray, topology: Topology) -> np.ndarray:
    """Log frequency of each state in an alignment, one count added: ``[s]``. -1 is padding."""
    counts = np.bincount(states[states >= 0], minlength=topology.states) + 1.0
    return np.log(counts / counts.sum())
