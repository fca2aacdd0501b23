"""Loads what it is told to, one line of JSON a time: a process of its own, as the hub's address is read at import."""

import hashlib
import json
import sys


def answer(order: dict) -> dict:
    from energylab.errors import EnergylabError
    from energylab.parameters import Parameters
    from energylab.tasks import load_task

    try:
        task = load_task(Parameters(**order["parameters"]))
        if order["what"] == "rows":
            rows, facts = task.load_rows()
            return {"rows": rows, "facts": facts.model_dump()}
        facts = task.load("cpu").model_dump()
        return {"facts": facts, **(answers(task) if order["what"] == "answers" else generated(task))}
    except EnergylabError as error:
        return {"error": type(error).__name__, "message": str(error)}


def generated(task) -> dict:
    inputs = task.prepare([{"text": "A short text."}])
    weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in task.model.parameters())).hexdigest()
    return {"weights": weights, "new_ids": task.new_ids(inputs, task.run("generate", inputs)).tolist()}


def answers(task) -> dict:
    rows, facts = task.load_rows()
    inputs = task.prepare(rows)
    given = task.answers(inputs, task.run(task.phases[-1], inputs))
    quality = [one.model_dump() for one in task.score(given, rows)]
    return {"rows": len(rows), "data": facts.model_dump(), "answers": [str(one) for one in given], "quality": quality}


for line in sys.stdin:
    print("ANSWER " + json.dumps(answer(json.loads(line))), flush=True)
