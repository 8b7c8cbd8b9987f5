"""Whom people write to about this server (XEP-0157), in the domain's service discovery (XEP-0128)."""

from collections.abc import Iterable

from config.feature_settings import ContactAddressSettings
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from homeserver.xmpp.catalogue import Catalogue
from homeserver.xmpp.feature import feature


class Addresses:
    """Addresses by purpose, those without any left out."""

    def __init__(self, settings: ContactAddressSettings) -> None:
        every = {
            "abuse": settings.abuse,
            "admin": settings.admin,
            "feedback": settings.feedback,
            "sales": settings.sales,
            "security": settings.security,
            "status": settings.status,
            "support": settings.support,
        }
        self.known = {purpose: found for purpose, found in every.items() if found}

    def fields(self) -> Iterable[forms.Field]:
        """XEP-0157 s6.1."""
        for purpose, found in self.known.items():
            yield forms.Field(f"{purpose}-addresses", found, "list-multi")


@feature(xep=157, version="1.1.1")
class ContactAddresses:
    """Puts the form into the answers of every domain, where addresses are configured."""

    addresses: Addresses
    catalogue: Catalogue

    def __post_init__(self) -> None:
        self.catalogue.add_form(self._form)

    def _form(self, _domain: str) -> Element | None:
        return forms.build("result", ns.SERVER_INFO, tuple(self.addresses.fields())) if self.addresses.known else None
