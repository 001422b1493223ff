"""What server = "asgi" runs: shop.asgi:application."""

import os

from django.core.asgi import get_asgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_asgi_application()
# Django imports the views at the first request. Imported now, a broken one fails the reload instead of a customer's
# request, and all workers share them.
_ = get_resolver().url_patterns
