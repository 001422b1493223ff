"""Which view answers what."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.index),
    path("leak", views.leak),
    path("large", views.large),
    path("lines", views.lines),
    path("echo", views.echo),
    path("form", views.form),
    path("visits", views.visits),
    path("broken", views.broken),
]
