"""Once accepted, never lost; sent again, never doubled."""

from __future__ import annotations

import io
import os
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from energylab.errors import ConflictError, NotThereError, ParameterError, PortalError
from energylab_portal import review, submissions, tables
from energylab_portal.settings import Limits, digest_of
from energylab_portal.tables import Submission

KEY = "a key that is long enough"


def rows(database):
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Submission))


def closed(attested):
    return submissions.ClosedSubmission(contact="someone@example.org", attested=attested)


class TestOpen:
    def test_it_is_there_with_its_first_line_of_the_log(self, submit, portal):
        accepted = submit("org/model", ("text_generation", "reasoning"))
        with portal.database.reading() as session:
            one = portal.queue.by_link(session, accepted.link)
            lines = tables.history(session, one.id)
        assert (one.name, one.state, one.model) == (accepted.name, "received", "org/model")
        assert one.task_names == ("text_generation", "reasoning")
        assert [(line.before, line.after, line.actor) for line in lines] == [(None, "received", "submitter")]

    def test_the_same_request_again_is_the_same_submission(self, submit, database):
        first, second = submit(key=KEY), submit(key=KEY)
        assert (second.name, second.link, second.again) == (first.name, first.link, True)
        assert rows(database) == 1

    def test_the_same_key_for_something_else_is_refused(self, submit):
        submit("org/one", key=KEY)
        with pytest.raises(ConflictError, match="another submission"):
            submit("org/two", key=KEY)

    def test_twenty_at_the_same_moment_are_one(self, submit, database):
        with ThreadPoolExecutor(20) as pool:
            links = set(pool.map(lambda _: submit(key=KEY).link, range(40)))
        assert len(links) == 1
        assert rows(database) == 1

    def test_a_short_key_is_refused(self, submit):
        with pytest.raises(PortalError, match="16 to 200"):
            submit(key="short")

    def test_the_link_is_not_in_the_database(self, submit, portal):
        accepted = submit()
        with portal.database.reading() as session:
            one = tables.by_name(session, accepted.name)
        assert one.link_hash == digest_of(accepted.link)
        assert all(accepted.link not in str(value) for value in vars(one).values())

    def test_a_wrong_link_finds_nothing(self, submit, portal):
        link = submit().link
        for wrong in (link[:-1], link + "x", "", "x" * 10_000, link.swapcase()):
            with portal.database.reading() as session, pytest.raises(NotThereError):
                portal.queue.by_link(session, wrong)


class TestOneClient:
    """One client can neither fill the queue nor the disk, and what it gave can be erased."""

    def test_a_model_that_waits_is_not_taken_twice(self, submit, portal):
        submit("org/model")
        with pytest.raises(ConflictError, match="waits to be measured already"):
            submit("ORG/model")
        submit("org/model", tasks=("reasoning",))
        assert rows(portal.database) == 2

    def test_so_many_may_wait(self, make_portal):
        portal = make_portal("few", limits=Limits(waiting=2))

        def ask(number, client):
            asked = submissions.OpenSubmission(model=f"o/m{number}", tasks=("reasoning",), contact="a@example.org")
            return portal.queue.take_open(asked, secrets.token_urlsafe(20), client)

        ask(0, "1.1.1.1")
        ask(1, "1.1.1.1")
        with pytest.raises(ConflictError, match="2 submissions of yours wait"):
            ask(2, "1.1.1.1")
        ask(3, "2.2.2.2")
        with portal.database.reading() as session:
            assert not any("1.1.1.1" in one.client for one in tables.in_states(session, ["received"]))

    def test_what_is_not_accepted_leaves_no_file(self, portal, all_attested):
        """Eleven files for one accepted submission: now as many as are accepted."""
        asked = submissions.ClosedSubmission(contact="a@example.org", attested=all_attested)
        portal.queue.take_closed(asked, "k" * 20, io.BytesIO(b"first"))
        for number in range(10):
            with pytest.raises(ConflictError, match="used for another"):
                portal.queue.take_closed(asked, "k" * 20, io.BytesIO(b"other %d" % number))
        assert len(list(portal.settings.bundles.iterdir())) == 1

    def test_files_nobody_needs_are_swept(self, portal, all_attested, clock):
        asked = submissions.ClosedSubmission(contact="a@example.org", attested=all_attested)
        name = portal.queue.take_closed(asked, "k" * 20, io.BytesIO(b"first")).name
        orphan = portal.settings.bundles / ".upload-1"
        orphan.write_bytes(b"of a crash")
        os.utime(orphan, (0, 0))
        assert portal.queue.clean() == 1
        review.act(portal.database, name, "reject", "not one of ours, measure it again")
        assert portal.queue.clean() == 0
        clock.now += 31 * 86_400
        assert portal.queue.clean() == 1
        assert list(portal.settings.bundles.iterdir()) == []

    def test_an_address_can_be_erased_and_a_guessed_one_is_not_confirmed(self, submit, portal):
        """Neither by what is kept, nor by sending the same again."""
        accepted = submit(key=KEY)
        portal.queue.erase_contact(accepted.link)
        with portal.database.reading() as session:
            one = tables.by_name(session, accepted.name)
            assert (one.contact, one.content_hash) == ("", "")
        with pytest.raises(ConflictError, match="erased since; follow that by its link"):
            submit(key=KEY)


class TestWhatMayBeAsked:
    @pytest.mark.parametrize(
        "model",
        ["", "a/b/c", "../etc", "a/..", "a b", "a/b\nc", "https://hub/a/b", "a/b?x", "-a/b", "x" * 300, "a/b--c"],
    )
    def test_what_is_no_hub_id_is_refused(self, model):
        with pytest.raises(ValidationError, match="model"):
            submissions.OpenSubmission(model=model, tasks=("reasoning",), contact="a@example.org")

    @pytest.mark.parametrize("model", ["gpt2", "org/model", "org/Model-1.5_b", " org/model "])
    def test_hub_ids_pass(self, model):
        asked = submissions.OpenSubmission(model=model, tasks=("reasoning",), contact="a@example.org")
        assert asked.model == model.strip()

    @pytest.mark.parametrize("contact", ["", "nobody", "a@", "@b", "a@b\nc", "a b@c", "<a@b>", "a@b\u202e", "x" * 300])
    def test_what_is_no_address_is_refused(self, contact):
        with pytest.raises(ValidationError, match="contact"):
            submissions.OpenSubmission(model="a/b", tasks=("reasoning",), contact=contact)

    @pytest.mark.parametrize("revision", ["../main", "a b", "-x", "a\x00", "x" * 300])
    def test_what_is_no_revision_is_refused(self, revision):
        with pytest.raises(ValidationError, match="revision"):
            submissions.OpenSubmission(model="a/b", tasks=("reasoning",), contact="a@b.c", revision=revision)


class TestClosed:
    def test_the_file_is_kept_under_its_digest(self, portal, all_attested):
        accepted = portal.queue.take_closed(closed(all_attested), KEY, io.BytesIO(b"a bundle"))
        with portal.database.reading() as session:
            one = tables.by_name(session, accepted.name)
        assert portal.settings.bundle_path(one.bundle).read_bytes() == b"a bundle"
        assert (one.bundle, one.bundle_bytes, one.attestation) == (digest_of("a bundle"), 8, "1")

    def test_every_statement_is_needed(self, portal, all_attested):
        for left in all_attested:
            said = tuple(name for name in all_attested if name != left)
            with pytest.raises(ParameterError, match=f"missing: {left}"):
                portal.queue.take_closed(closed(said), KEY, io.BytesIO(b"x"))

    def test_the_same_file_counts_once(self, portal, all_attested):
        portal.queue.take_closed(closed(all_attested), KEY, io.BytesIO(b"x"))
        again = portal.queue.take_closed(closed(all_attested), KEY, io.BytesIO(b"x"))
        assert again.again
        with pytest.raises(ConflictError, match="counts once"):
            portal.queue.take_closed(closed(all_attested), KEY + "2", io.BytesIO(b"x"))

    def test_an_empty_or_too_large_file_leaves_nothing(self, portal, all_attested):
        with pytest.raises(PortalError, match="empty"):
            portal.queue.take_closed(closed(all_attested), KEY, io.BytesIO(b""))
        too_much = io.BytesIO(b"0" * (portal.settings.limits.bundle_bytes + 1))
        with pytest.raises(PortalError, match="larger than"):
            portal.queue.take_closed(closed(all_attested), KEY, too_much)
        assert list(portal.settings.bundles.iterdir()) == []
        assert rows(portal.database) == 0
