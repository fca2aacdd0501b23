"""Once accepted, never lost; sent again, never doubled."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from energylab.errors import ConflictError, NotThereError, ParameterError, PortalError
from energylab_portal import review
from energylab_portal.sealed.statement import ATTESTATIONS
from energylab_portal.settings import Limits, digest_of
from energylab_portal.submissions import OpenSubmission
from energylab_portal.tables import Submission

KEY = "a key that is long enough"
WRONG = {
    "model": ("", "a/b/c", "../etc", "a/..", "a b", "a/b\nc", "https://hub/a/b", "-a/b", "x" * 300, "a/b--c"),
    "contact": ("", "nobody", "a@", "@b", "a@b\nc", "a b@c", "<a@b>", "a@b\u202e", "x" * 300),
    "revision": ("../main", "a b", "-x", "a\x00", "x" * 300),
    "tasks": ((),),
}


@pytest.fixture
def rows(database):
    """Return a function that counts what was accepted."""

    def rows():
        with database.reading() as session:
            return session.scalar(select(func.count()).select_from(Submission))

    return rows


class TestOpen:
    def test_it_is_there_with_its_first_line_of_the_log_and_without_its_link(self, submit, now):
        accepted = submit("org/model", ("text_generation", "reasoning"))
        one, _, lines = now(accepted.name)
        assert (one.state, one.model, one.task_names) == ("received", "org/model", ("text_generation", "reasoning"))
        assert [(line.before, line.after, line.actor) for line in lines] == [(None, "received", "submitter")]
        assert one.link_hash == digest_of(accepted.link)
        assert all(accepted.link not in str(value) for value in vars(one).values())

    def test_twenty_times_the_same_request_at_the_same_moment_are_one(self, submit, rows):
        with ThreadPoolExecutor(20) as pool:
            sent = list(pool.map(lambda _: submit(key=KEY), range(40)))
        assert len({(one.name, one.link) for one in sent}) == 1
        assert [one.again for one in sent].count(False) == 1
        assert rows() == 1

    def test_a_key_is_one_submissions_and_hard_to_guess(self, submit):
        submit("org/one", key=KEY)
        with pytest.raises(ConflictError, match="another submission"):
            submit("org/two", key=KEY)
        with pytest.raises(PortalError, match="16 to 200"):
            submit(key="short")

    def test_a_wrong_link_finds_nothing(self, submit, portal):
        link = submit().link
        with portal.database.reading() as session:
            assert portal.queue.by_link(session, link).model == "org/model"
            for wrong in (link[:-1], link + "x", "", "x" * 10_000, link.swapcase()):
                with pytest.raises(NotThereError):
                    portal.queue.by_link(session, wrong)

    @pytest.mark.parametrize(("field", "wrong"), [(field, one) for field, some in WRONG.items() for one in some])
    def test_what_cannot_be_asked_is_refused(self, field, wrong):
        asked = {"model": " org/Model-1.5_b ", "tasks": ("reasoning",), "contact": "a@example.org", "revision": "v1/x"}
        assert OpenSubmission(**asked).model == "org/Model-1.5_b"
        with pytest.raises(ValidationError, match=field):
            OpenSubmission(**{**asked, field: wrong})


class TestOneClient:
    """One client can neither fill the queue nor the disk, and what it gave can be erased."""

    def test_a_model_that_waits_is_not_taken_twice(self, submit, rows):
        submit("org/model")
        with pytest.raises(ConflictError, match="is already waiting"):
            submit("ORG/model")
        submit("org/model", tasks=("reasoning",))
        assert rows() == 2

    def test_so_many_may_wait(self, make_portal, submit):
        few = make_portal("few", limits=Limits(waiting=2))
        for number in range(2):
            submit(f"o/m{number}", client="1.1.1.1", by=few)
        with pytest.raises(ConflictError, match="2 of your submissions are waiting"):
            submit("o/m2", client="1.1.1.1", by=few)
        submit("o/m3", client="2.2.2.2", by=few)
        with few.database.reading() as session:
            assert not any("1.1.1.1" in client for client in session.scalars(select(Submission.client)))

    def test_an_address_can_be_erased_and_a_guessed_one_is_not_confirmed(self, submit, portal, now):
        """Neither by what is kept, nor by sending the same again."""
        accepted = submit(key=KEY)
        portal.queue.erase_contact(accepted.link)
        one = now(accepted.name)[0]
        assert (one.contact, one.content_hash) == ("", "")
        with pytest.raises(ConflictError, match="was erased; use a new key"):
            submit(key=KEY)


class TestClosed:
    @pytest.fixture
    def files(self, portal):
        return lambda: list(portal.settings.bundles.iterdir())

    def test_the_file_is_kept_under_its_digest_and_counts_once(self, portal, send, now):
        one = now(send(key=KEY).name)[0]
        assert portal.settings.bundle_path(one.bundle).read_bytes() == b"a bundle"
        assert (one.bundle, one.bundle_bytes, one.attestation) == (digest_of("a bundle"), 8, "1")
        assert send(key=KEY).again
        with pytest.raises(ConflictError, match="is accepted once"):
            send()

    @pytest.mark.parametrize("left", ATTESTATIONS)
    def test_every_statement_is_needed(self, send, left):
        with pytest.raises(ParameterError, match=f"missing: {left}"):
            send(attested=tuple(name for name in ATTESTATIONS if name != left))

    def test_what_is_not_accepted_leaves_no_file(self, portal, send, files, rows):
        """Eleven files for one accepted submission: now as many as are accepted."""
        for wrong, words in ((b"", "empty"), (b"0" * (portal.settings.limits.bundle_bytes + 1), "larger than")):
            with pytest.raises(PortalError, match=words):
                send(wrong)
        assert (files(), rows()) == ([], 0)
        send(key=KEY)
        for number in range(10):
            with pytest.raises(ConflictError, match="belongs to another"):
                send(b"other %d" % number, key=KEY)
        assert len(files()) == 1

    def test_files_nobody_needs_are_swept(self, portal, send, files, clock):
        name, orphan = send().name, portal.settings.bundles / ".upload-1"
        orphan.write_bytes(b"of a crash")
        os.utime(orphan, (0, 0))
        assert portal.queue.clean() == 1
        review.act(portal.database, name, "reject", "not one of ours, measure it again")
        assert portal.queue.clean() == 0
        clock.now += 31 * 86_400
        assert portal.queue.clean() == 1
        assert files() == []
