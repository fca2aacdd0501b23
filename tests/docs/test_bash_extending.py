"""Every bash block of the pages about adding a task, a meter, an executor or a rating scheme runs."""

import pytest
from docs_blocks import EXTENDING, bash_pages, run_bash, workplace

PAGES = {page: found for page, found in bash_pages().items() if page.startswith(EXTENDING)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder for all pages, as a reader has."""
    return workplace(tmp_path_factory.mktemp("bash-extending"))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_bash_blocks_of_a_page_run(page, place):
    run_bash(PAGES[page], place)
