"""Accounts and their credentials: none can be guessed, and each leads to its owner only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.vectors import NOW
from thingmint.access.directory import Directory
from thingmint.access.vault import Vault, VaultError
from thingmint.identity.errors import Unauthenticated

if TYPE_CHECKING:
    from tests.unit.access.conftest import Run, Town


def test_credentials_have_the_form_that_clients_expect(run: Run) -> None:
    async def scenario(town: Town) -> None:
        made = [await town.directory.create_account(f"{number}", ["us-east-1"], NOW) for number in range(20)]
        for credentials in made:
            assert re.fullmatch(r"[1-9]\d{11}", credentials.account)
            assert re.fullmatch(r"AKIA[A-Z2-7]{16}", credentials.access_key_id)
            assert re.fullmatch(r"[A-Za-z0-9+/]{40}", credentials.secret_access_key)
            assert re.fullmatch(r"tma_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", credentials.api_token)
            assert credentials.secret_access_key not in repr(credentials)
        for name in ("account", "access_key_id", "secret_access_key", "api_token"):
            assert len({getattr(credentials, name) for credentials in made}) == len(made)

    run(scenario)


def test_each_leads_to_its_owner(run: Run) -> None:
    async def scenario(town: Town) -> None:
        for credentials, regions in ((town.ours, ("us-east-1", "eu-central-1")), (town.theirs, ("us-west-2",))):
            by_key, secret = await town.directory.find_access_key(credentials.access_key_id)
            by_token = await town.directory.authenticate_token(credentials.api_token)
            assert secret == credentials.secret_access_key
            for caller in (by_key, by_token):
                assert (caller.account, caller.regions) == (credentials.account, regions)
                assert caller.arn == f"arn:aws:iam::{credentials.account}:user/administrator"
                assert caller.permissions == {"*"}
            assert by_key.credential == credentials.access_key_id
            assert by_token.credential == credentials.api_token.split("_")[1]

    run(scenario)


def test_the_developer_is_the_first_account(run: Run) -> None:
    async def scenario(town: Town) -> None:
        developer = await town.directory.developer()
        assert (developer.account, developer.credential) == (town.ours.account, "dev")

    run(scenario)


@pytest.mark.parametrize("id", ["", "AKIAAAAAAAAAAAAAAAAA", "' OR 1=1 --", "\0", "%"])
def test_unknown_access_keys(run: Run, id: str) -> None:
    async def scenario(town: Town) -> None:
        with pytest.raises(Unauthenticated) as refused:
            await town.directory.find_access_key(id)
        assert refused.value.flaw == "unknown"
        assert refused.value.message == "The security token included in the request is invalid."

    run(scenario)


def test_unknown_tokens_are_all_refused_in_the_same_words(run: Run) -> None:
    async def scenario(town: Town) -> None:
        token = town.ours.api_token
        token_id, secret = token.removeprefix("tma_").split("_", 1)
        other_id, other_secret = town.theirs.api_token.removeprefix("tma_").split("_", 1)
        messages = set()
        for wrong in (
            "",
            "tma_",
            f"tma_{token_id}",
            f"tma_{token_id}_",
            f"tma_{token_id}_{secret[:-1]}",
            f"tma_{token_id}_{secret}=",
            f"tma_{token_id}_{secret.swapcase()}",
            f"tma_{token_id}_{other_secret}",
            f"tma_{other_id}_{secret}",
            f"tma_{'0' * 16}_{secret}",
            f"tmb_{token_id}_{secret}",
            f"{token_id}_{secret}",
            f"tma_tma_{token_id}_{secret}",
            token.upper(),
            f"{token}\u00e9",
            "tma_\0_\0",
        ):
            with pytest.raises(Unauthenticated) as refused:
                await town.directory.authenticate_token(wrong)
            assert refused.value.flaw == "unknown"
            messages.add(refused.value.message)
        assert len(messages) == 1
        await town.directory.authenticate_token(token)

    run(scenario)


def test_no_secret_lies_open_in_the_database(run: Run) -> None:
    async def scenario(town: Town) -> None:
        dump = "\n".join(town.store._reader.iterdump())
        assert town.ours.account in dump
        assert town.ours.access_key_id in dump
        for secret in (town.ours.secret_access_key, town.ours.api_token.split("_", 2)[2]):
            assert secret not in dump
            assert secret.encode().hex() not in dump.lower()

    run(scenario)


def test_another_master_key_opens_no_secret(run: Run) -> None:
    async def scenario(town: Town) -> None:
        another = Directory(town.store, Vault(b"M" * 32))
        with pytest.raises(VaultError):
            await another.find_access_key(town.ours.access_key_id)

    run(scenario)
