"""Laws of the HMM: Viterbi finds the best of all paths, alignments go from left to right, a flat
start covers all.
"""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from experiments.hinton2015.speech import hmm
from kd.evals import word_errors

topologies = st.builds(
    hmm.Topology, words=st.integers(1, 2), per_word=st.integers(1, 2), silence=st.integers(1, 2)
)


@st.composite
def cases(draw, topologies=topologies, frames=5, utterances=3):
    """A topology, probabilities of staying, likelihoods, lengths and words of a few utterances."""
    topology = draw(topologies)
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    lengths = random.integers(topology.per_word, frames + 1, size=utterances)
    likelihoods = random.normal(0, 2, (utterances, frames, topology.states)).astype(np.float32)
    stay = random.uniform(0.1, 0.9, topology.states)
    return topology, stay, likelihoods, lengths, random.integers(0, topology.words, size=utterances)


def best(network, scores):
    """The score and nodes of the best path, by trying every sequence of nodes and every way between
    them.
    """
    nodes, best_path = range(len(network.state)), (-np.inf, None, None)
    for path in itertools.product(nodes, repeat=len(scores)):
        total, entered = network.start[path[0]] + scores[0, path[0]], [True]
        for t in range(1, len(path)):
            a, b = path[t - 1], path[t]
            ways = [
                network.stay[a] if a == b else -np.inf,
                network.advance[a] if a + 1 == b else -np.inf,
                network.leave[a] + network.enter[b],
            ]
            total += max(ways) + scores[t, b]
            entered.append(int(np.argmax(ways)) == 2)
        total += network.leave[path[-1]]
        if total > best_path[0]:
            best_path = (total, path, entered)
    return best_path


def check(network, scores, length):
    wanted, nodes, entered = best(network, scores[:length, network.state])
    path = hmm.viterbi(network, scores[:, network.state], length)
    np.testing.assert_allclose(path.score, wanted, rtol=1e-4, atol=1e-4)
    if np.isfinite(wanted):
        assert np.asarray(path.nodes)[:length].tolist() == list(nodes)
        assert np.asarray(path.entered)[:length].tolist() == entered


@given(cases(frames=4, utterances=1))
def test_viterbi_finds_the_best_of_all_paths_for_a_spoken_word(case):
    topology, stay, likelihoods, lengths, words = case
    networks = hmm.spoken_word(topology, stay, words)
    check(hmm.Network(*(leaf[0] for leaf in networks)), likelihoods[0], lengths[0])


@given(cases(frames=4, utterances=1), st.floats(0, 3))
def test_viterbi_finds_the_best_of_all_paths_in_the_loop(case, penalty):
    topology, stay, likelihoods, lengths, _ = case
    check(hmm.word_loop(topology, stay, penalty), likelihoods[0], lengths[0])


big = st.builds(
    hmm.Topology, words=st.integers(1, 3), per_word=st.integers(1, 4), silence=st.integers(1, 2)
)


@given(cases(big, frames=12, utterances=4))
def test_an_alignment_says_the_word_from_left_to_right(case):
    topology, _, _, lengths, words = case
    states, scores = hmm.align(*case)
    assert np.all(np.isfinite(scores))
    for row, length, word in zip(states, lengths, words, strict=True):
        row, spoken = row[:length], topology.words * topology.per_word
        inside = row[row < spoken]
        assert set(inside) == set(range(word * topology.per_word, (word + 1) * topology.per_word))
        assert np.all(np.diff(inside) >= 0)
        spoken_at = np.flatnonzero(row < spoken)
        assert spoken_at[-1] - spoken_at[0] + 1 == len(spoken_at)  # in one piece, silence around it


@given(cases(big, frames=12, utterances=4))
def test_utterances_in_company_and_padding_change_nothing(case):
    topology, stay, likelihoods, lengths, words = case
    together, _ = hmm.align(*case)
    wide = np.concatenate([likelihoods, np.full_like(likelihoods, 7)], axis=1)
    heard = hmm.decode(topology, stay, likelihoods, lengths, 1.0)
    assert hmm.decode(topology, stay, wide, lengths, 1.0) == heard
    for i, length in enumerate(lengths):
        alone, _ = hmm.align(topology, stay, wide[i : i + 1], lengths[i : i + 1], words[i : i + 1])
        assert alone[0, :length].tolist() == together[i, :length].tolist()


@given(cases(big, frames=12, utterances=4))
def test_frames_that_say_where_they_belong_are_aligned_and_decoded_there(case):
    topology, stay, _, lengths, words = case
    truth, _ = hmm.align(*case)
    clear = np.where(np.arange(topology.states) == truth[..., None], 0, -1e3).astype(np.float32)
    again, _ = hmm.align(topology, stay, clear, lengths, words)
    for a, b, length in zip(truth, again, lengths, strict=True):
        assert a[:length].tolist() == b[:length].tolist()
    assume(topology.per_word > 1)  # a word of one state may be said once or twice
    assert hmm.decode(topology, stay, clear, lengths, 0.0) == [[word] for word in words]


@given(cases(big, frames=12, utterances=4))
def test_a_penalty_never_adds_words(case):
    topology, stay, likelihoods, lengths, _ = case
    counts = [
        sum(map(len, hmm.decode(topology, stay, likelihoods, lengths, penalty)))
        for penalty in (0.0, 2.0, 10.0, 1e6)
    ]
    assert counts == sorted(counts, reverse=True)


@given(cases(big, frames=12, utterances=4))
def test_a_flat_start_covers_every_frame_and_every_state_of_the_word(case):
    topology, _, likelihoods, lengths, words = case
    states = hmm.flat_start(topology, likelihoods[..., 0], lengths, words)
    for row, length, word in zip(states, lengths, words, strict=True):
        assert np.all(row[:length] >= 0)
        assert np.all(row[length:] == -1)
        inside = row[:length][row[:length] < topology.words * topology.per_word]
        counts = np.bincount(inside - word * topology.per_word, minlength=topology.per_word)
        assert counts.min() >= 1
        assert np.ptp(counts) <= 1  # equal parts
        assert np.all(np.diff(inside) >= 0)


def test_a_flat_start_finds_the_loud_part():
    energy = np.array([[0.0] * 5 + [9.0] * 6 + [0.0] * 3])
    states = hmm.flat_start(hmm.Topology(2, 3, 1), energy, np.array([14]), np.array([1]))
    assert states[0].tolist() == [6] * 5 + [3, 3, 4, 4, 5, 5] + [6] * 3


def test_staying_and_priors_are_counted():
    topology = hmm.Topology(1, 2, 1)
    states = np.array([[2, 0, 0, 0, 1, 2, -1], [0, 1, 1, 1, 1, 1, 1]])
    np.testing.assert_allclose(np.exp(hmm.log_priors(states, topology)), np.array([5, 8, 3]) / 16)
    stay = hmm.staying(states, topology)
    np.testing.assert_allclose(stay, 1 - np.array([2.5 / 5, 2.5 / 8, 2.5 / 3]))
    assert np.all(hmm.staying(np.zeros((1, 9), int), topology) >= 0.05)


# --- word errors ---


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "", 3),  # deletions
        ("a", "b a c", 2),  # insertions
        ("a b c d", "a x c", 2),  # a substitution and a deletion
        ("", "", 0),
    ],
)
def test_word_errors_by_hand(reference, hypothesis, errors):
    assert word_errors(reference.split(), hypothesis.split()) == errors


words = st.lists(st.integers(0, 2), max_size=6)


def distance(a, b):
    """The recursion that defines it."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0])
    )


@given(words, words)
def test_word_errors_are_the_edit_distance(a, b):
    assert word_errors(a, b) == distance(a, b)
