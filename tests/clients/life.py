"""The whole life of processes, seen by a client in another language that knows only the contract.

usage: life.py ADDRESS PATTERN

ADDRESS is HOST:PORT of a launcher that runs nothing; PATTERN is a pattern whose instances become healthy. Needs grpcio,
grpcio-tools and grpcio-reflection.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass


def generate():
    """Makes the client from the contract, as a build of a client would."""
    out = tempfile.mkdtemp(prefix="launcher-client-")
    here = str(Path(__file__).resolve().parent)
    code = protoc.main(["protoc", f"-I{here}", f"--python_out={out}", f"--grpc_python_out={out}", "contract.proto"])
    assert code == 0, "the client cannot be generated"
    sys.path.insert(0, out)
    import contract_pb2
    import contract_pb2_grpc

    return contract_pb2, contract_pb2_grpc


def refused(call, code):
    """The error that a call must end with."""
    try:
        answer = call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} in place of {code}: {error.details()}"
        return error
    raise AssertionError(f"it was not refused: {answer}")


def launches(pb, stub, pattern):
    """Launches at each level share processes and keep them apart as the level says."""

    def launch(level, namespace="", session=""):
        request = pb.LaunchRequest(pattern_name=pattern, isolation=level, namespace=namespace, session_id=session)
        answer = stub.LaunchPattern(request, timeout=30)
        assert answer.state == pb.STATE_RUNNING and answer.healthy and not answer.error, answer
        assert answer.address.startswith("127.0.0.1:"), answer
        return answer.process_id

    assert launch(pb.ISOLATION_NONE) == launch(pb.ISOLATION_NONE, "ignored") == f"shared:{pattern}"
    assert launch(pb.ISOLATION_NAMESPACE, "a") == launch(pb.ISOLATION_NAMESPACE, "a") == f"ns:a:{pattern}"
    assert launch(pb.ISOLATION_NAMESPACE, "b") == f"ns:b:{pattern}"
    assert launch(pb.ISOLATION_SESSION, "a", "auth0|123") == launch(pb.ISOLATION_SESSION, "a", "auth0|123")
    one, other = launch(pb.ISOLATION_SESSION, "a", "s"), launch(pb.ISOLATION_SESSION, "b", "s")
    assert (one, other) == (f"session:a:s:{pattern}", f"session:b:s:{pattern}")
    assert launch(pb.ISOLATION_SESSION, "", "s") == f"session:default:s:{pattern}"

    missing = refused(lambda: launch(pb.ISOLATION_NAMESPACE), grpc.StatusCode.INVALID_ARGUMENT)
    assert "[MISSING_NAMESPACE]" in missing.details(), missing.details()
    missing = refused(lambda: launch(pb.ISOLATION_SESSION, "a"), grpc.StatusCode.INVALID_ARGUMENT)
    assert "[MISSING_SESSION_ID]" in missing.details(), missing.details()
    unknown = pb.LaunchRequest(pattern_name="no-such-pattern", namespace="a")
    unknown = refused(lambda: stub.LaunchPattern(unknown, timeout=30), grpc.StatusCode.NOT_FOUND)
    assert "[PATTERN_NOT_FOUND]" in unknown.details() and "Suggestion:" in unknown.details(), unknown.details()


def one_for_many(pb, stub, pattern):
    """Fifty callers of one key at once get one process."""
    request = pb.LaunchRequest(pattern_name=pattern, isolation=pb.ISOLATION_NAMESPACE, namespace="crowd")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: stub.LaunchPattern(request, timeout=60), range(50)))
    assert {answer.process_id for answer in answers} == {f"ns:crowd:{pattern}"}
    assert len({answer.address for answer in answers}) == 1
    info = stub.GetProcessStatus(pb.GetProcessStatusRequest(process_id=f"ns:crowd:{pattern}")).process
    assert info.pid > 0 and info.restart_count == 0, info


def lists(pb, stub, pattern):
    """Lists are complete, filtered, and count what is declared before filtering."""
    everything = stub.ListPatterns(pb.ListPatternsRequest())
    assert everything.total_count == len(everything.patterns) == 8, everything
    assert [info.process_id for info in everything.patterns] == sorted(i.process_id for i in everything.patterns)
    of_b = stub.ListPatterns(pb.ListPatternsRequest(namespace="b"))
    assert {info.process_id for info in of_b.patterns} == {f"ns:b:{pattern}", f"session:b:s:{pattern}"}, of_b
    assert of_b.total_count == 8
    assert len(stub.ListPatterns(pb.ListPatternsRequest(pattern_name=pattern)).patterns) == 8
    assert len(stub.ListPatterns(pb.ListPatternsRequest(pattern_name="other")).patterns) == 0
    assert len(stub.ListPatterns(pb.ListPatternsRequest(state=pb.STATE_RUNNING)).patterns) == 8
    assert len(stub.ListPatterns(pb.ListPatternsRequest(state=pb.STATE_FAILED)).patterns) == 0


def health(pb, stub):
    """The launcher says how it is, with and without its processes."""
    short = stub.Health(pb.HealthRequest())
    assert short.healthy and not short.processes, short
    long = stub.Health(pb.HealthRequest(include_processes=True))
    assert (long.total_processes, long.running_processes, long.failed_processes) == (8, 8, 0), long
    assert dict(long.isolation_distribution) == {"None": 1, "Namespace": 3, "Session": 4}, long
    assert len(long.processes) == 8 and all(info.pid > 0 for info in long.processes), long


def ends(pb, stub, pattern):
    """What is terminated is gone: not found, not listed; launched again it is another process."""
    key = f"ns:a:{pattern}"
    before = stub.GetProcessStatus(pb.GetProcessStatusRequest(process_id=key)).process
    assert before.state == pb.STATE_RUNNING and before.pid > 0, before
    answer = stub.TerminatePattern(pb.TerminateRequest(process_id=key), timeout=60)
    assert answer.success and not answer.error, answer
    assert stub.GetProcessStatus(pb.GetProcessStatusRequest(process_id=key)).not_found
    assert stub.ListPatterns(pb.ListPatternsRequest()).total_count == 7
    assert not Path(f"/proc/{before.pid}").exists(), "it was answered before the process was gone"
    gone = refused(lambda: stub.TerminatePattern(pb.TerminateRequest(process_id=key)), grpc.StatusCode.NOT_FOUND)
    assert "[PROCESS_NOT_FOUND]" in gone.details(), gone.details()
    negative = pb.TerminateRequest(process_id=f"ns:b:{pattern}", grace_period_secs=-1)
    refused(lambda: stub.TerminatePattern(negative), grpc.StatusCode.INVALID_ARGUMENT)
    request = pb.LaunchRequest(pattern_name=pattern, isolation=pb.ISOLATION_NAMESPACE, namespace="a")
    assert stub.LaunchPattern(request, timeout=30).process_id == key
    after = stub.GetProcessStatus(pb.GetProcessStatusRequest(process_id=key)).process
    assert after.pid != before.pid, after
    for info in stub.ListPatterns(pb.ListPatternsRequest()).patterns:
        assert stub.TerminatePattern(pb.TerminateRequest(process_id=info.process_id, force=True), timeout=60).success
    assert stub.ListPatterns(pb.ListPatternsRequest()).total_count == 0


def discovers(channel, pattern):
    """A client that knows nothing finds the service by reflection and calls it."""
    database = ProtoReflectionDescriptorDatabase(channel)
    names = database.get_services()
    assert {"prism.launcher.PatternLauncher", "grpc.health.v1.Health"} <= set(names), names
    service = DescriptorPool(database).FindServiceByName("prism.launcher.PatternLauncher")
    method = service.methods_by_name["ListManifests"]
    call = channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    answer = call(GetMessageClass(method.input_type)())
    assert pattern in {manifest.name for manifest in answer.manifests}, answer


def main():
    address, pattern = sys.argv[1:]
    pb, pb_grpc = generate()
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.PatternLauncherStub(channel)
        discovers(channel, pattern)
        launches(pb, stub, pattern)
        one_for_many(pb, stub, pattern)
        lists(pb, stub, pattern)
        health(pb, stub)
        ends(pb, stub, pattern)
    print("the whole life, as the contract has it")


main()
