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
