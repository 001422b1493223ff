from __future__ import annotations

from flask import Blueprint, Flask

shop = Blueprint("shop", __name__, url_prefix="/shop")


@shop.get("/product/<name>")
def product(name: str) -> str:
    return name


app = Flask(__name__)
app.register_blueprint(shop)
