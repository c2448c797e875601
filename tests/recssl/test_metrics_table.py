from recssl.metrics_table import metrics_table


def method(name: str, recall: float) -> dict[str, object]:
    values = {"recall@5": recall, "ndcg@5": recall / 2}
    metrics = {key: {"value": value, "low": None, "high": None} for key, value in values.items()}
    return {"name": name, "metrics": metrics, "lists": {"coverage@5": 0.25}}


def test_every_method_has_a_line_and_what_was_left_out_is_said() -> None:
    text = metrics_table(
        {
            "protocol": {
                "ks": [5],
                "part": "test",
                "users": 1200,
                "ranked": "all items",
                "masked": ["train", "valid"],
            },
            "models": [method("run", 0.5), method("popularity", 0.125)],
            "left_out": [{"name": "ease", "reason": "EASE needs 13 GB"}],
        }
    )
    head, run, popularity, protocol, left_out = text.splitlines()
    assert head.split() == ["method", "recall@5", "ndcg@5", "coverage"]
    assert run.split() == ["run", "0.5000", "0.2500", "0.2500"]
    assert popularity.split() == ["popularity", "0.1250", "0.0625", "0.2500"]
    assert protocol == "test part, 1,200 users, all items ranked, seen in train and valid masked"
    assert left_out == "left out: EASE needs 13 GB"


def test_the_table_says_how_users_without_history_were_treated() -> None:
    protocol = {"part": "test", "users": 9, "ranked": "all items", "masked": ["train"], "ks": []}
    protocol |= {"users_without_history": 4, "users_unknown_left_out": 3, "ks": [5]}
    metrics = {f"{name}@5": {"value": 0.5} for name in ("recall", "ndcg")}
    model = {"name": "ease", "metrics": metrics, "lists": {"coverage@5": 1.0}}
    model["new_users"] = "from their known items"
    text = metrics_table({"protocol": protocol, "models": [model], "left_out": []})
    assert "4 of the users were not learnt from, and scored by ease from their known" in text
    assert "left out: 3 users of whom nothing is known" in text
