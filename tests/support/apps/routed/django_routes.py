from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

settings.configure(SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
django.setup(set_prefix=False)


def product(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(name)


urlpatterns = [path("shop/", include([path("product/<str:name>", product)]))]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
