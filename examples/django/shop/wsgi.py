"""What server = "wsgi" runs: shop.wsgi:application."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
# Django imports the views at the first request. This line imports them now: a broken view then fails the reload and not
# a customer's request, and all workers share the views.
_ = get_resolver().url_patterns
