"""What accounts say of themselves and keep for themselves."""

from contextlib import AsyncExitStack
from typing import NamedTuple

from config.feature_settings import ProfileSettings
from homeserver.services.accounts import Accounts
from homeserver.services.avatars import Avatars
from homeserver.services.bookmarks import Bookmarks
from homeserver.services.enquiries import Enquiries
from homeserver.services.presence import Presence
from homeserver.services.privacy import Privacy
from homeserver.services.private_data import PrivateData
from homeserver.services.profile_lookup import ProfileLookup
from homeserver.services.profiles import Profiles
from homeserver.services.pubsub.service import PubSub
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions
from homeserver.storage.database import Database


class ProfileParts(NamedTuple):
    """The services, for who builds the faces."""

    avatars: Avatars
    profiles: Profiles
    private: PrivateData
    bookmarks: Bookmarks
    lookup: ProfileLookup


def build_profiles(
    settings: ProfileSettings,
    database: Database,
    accounts: Accounts,
    sessions: Sessions,
    presence: Presence,
    pubsub: PubSub,
    privacy: Privacy,
    router: Router,
    enquiries: Enquiries,
    stack: AsyncExitStack,
) -> ProfileParts:
    """Avatars, vCards, private data and bookmarks."""
    avatars = Avatars(pubsub, presence, accounts, sessions, settings.avatar_bytes)
    profiles = Profiles(database, pubsub, avatars, settings.vcard_bytes)
    private = PrivateData(database, settings.private_bytes)
    bookmarks = Bookmarks(pubsub, private, accounts)
    presence.on_shown.append(bookmarks.shown)
    accounts.when_revoked(profiles.revoked)
    accounts.when_revoked(private.revoked)
    for part in (bookmarks, avatars, private, profiles):
        stack.push_async_callback(part.settle)
    lookup = ProfileLookup(profiles, accounts, privacy, router, enquiries)
    return ProfileParts(avatars, profiles, private, bookmarks, lookup)
