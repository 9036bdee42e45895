/**
 * Every error code: the exit code that goes with it unless the error says otherwise, and what it means.
 * Codes are stable: scripts depend on them. docs/errors.md is made from this table (codes.test.ts).
 */
import type { ExitCode } from "./error.js";

export interface ErrorCode {
  exitCode: ExitCode;
  meaning: string;
}

export interface ErrorGroup {
  title: string;
  codes: Readonly<Record<string, ErrorCode>>;
}

const error = (meaning: string): ErrorCode => ({ exitCode: 1, meaning });
const usage = (meaning: string): ErrorCode => ({ exitCode: 2, meaning });
const notFound = (meaning: string): ErrorCode => ({ exitCode: 3, meaning });
const preflight = (meaning: string): ErrorCode => ({ exitCode: 4, meaning });
const refused = (meaning: string): ErrorCode => ({ exitCode: 6, meaning });
const peer = (meaning: string): ErrorCode => ({ exitCode: 7, meaning });
const timeOut = (meaning: string): ErrorCode => ({ exitCode: 124, meaning });

export const ERROR_GROUPS: readonly ErrorGroup[] = [
  {
    title: "The command line",
    codes: {
      USAGE: usage("The command line, an option or an environment variable is not understood."),
      CONFIG_INVALID: usage("The configuration file cannot be read or says something impossible."),
      CONFIRMATION_NEEDED: refused(
        "The command restarts a container or takes a service over; it asks on a terminal and needs -y elsewhere.",
      ),
      CANCELLED: refused("The question was answered with no, or the call was called off."),
      FORCE_NEEDED: refused(
        "Only a person can know that the primary is gone; --force says that you do.",
      ),
      TIME_OUT: timeOut("No answer within --timeout. What was asked may still go on."),
      INTERNAL: error("A bug in ftctl. The message and the log tell more; please report it."),
      FAULT_INJECTED: error("A test has set FTCTL_FAULT: this failure was asked for."),
    },
  },
  {
    title: "The local agent",
    codes: {
      AGENT_UNREACHABLE: error("No agent answers on the socket of this host."),
      AGENT_LOST: error("The agent ended in the middle of an answer. See `ftctl events` and `ls`."),
      AGENT_ANSWER_INVALID: error(
        "What answers on the socket is no agent, or one of another version.",
      ),
      AGENT_ALREADY_RUNNING: refused("Another agent has this socket; it is left alone."),
      NOTIFY_FAILED: error("systemd could not be told that the agent is ready."),
      AGENT_SOCKET_UNUSABLE: error("The agent cannot make its socket at this path."),
      REQUEST_INVALID: usage("A request on the local API is malformed."),
      REQUEST_TOO_LARGE: usage("A request on the local API is larger than 1 MiB."),
      METHOD_NOT_ALLOWED: usage("The path exists on the local API, but not for this HTTP method."),
      ROUTE_UNKNOWN: notFound(
        "The local API has no such path: client and agent differ in version.",
      ),
      TOO_MANY_SUBSCRIBERS: error("Too many readers follow the events; end one."),
    },
  },
  {
    title: "Policies",
    codes: {
      POLICY_INVALID: usage(
        "A policy or a label `ftctl.*` breaks a rule; each is told with its place.",
      ),
      POLICY_INCOMPLETE: usage(
        "The service's address, its bridge or its standby is given nowhere.",
      ),
      POLICY_NOT_FOUND: notFound("There is no policy of this name on the host."),
      POLICY_UNREADABLE: error("The policy file is missing, no file, or not readable."),
      POLICY_GIVEN_TWICE: usage("The same policy or container is in two of the files given."),
      POLICY_NAME_TAKEN: refused("Another file of the host defines a policy of this name."),
      POLICY_NOT_STORED: error("The policy could not be written to the host's folder of policies."),
      POLICY_CHANGE_NEEDS_REPLACE: refused(
        "The container is protected with other settings; --replace restarts it with the new ones.",
      ),
    },
  },
  {
    title: "Pairs",
    codes: {
      NOT_FOUND: notFound("No protected container has this name or id here."),
      AMBIGUOUS: usage("The id prefix fits several pairs; give more of it."),
      ALREADY_PROTECTED: refused("The container belongs to a pair already."),
      PREFLIGHT_FAILED: preflight(
        "A check failed; nothing was changed. `ftctl check` shows all of them.",
      ),
      NOT_PROTECTED: refused("The pair is not in a state in which this is safe."),
      NOT_PROTECTED_IN_TIME: timeOut(
        "The first checkpoint was not committed in time; protect was undone.",
      ),
      NOT_PRIMARY: refused("This has to be asked on the primary's host."),
      NAME_TAKEN: refused("The other host has a container or pair of this name that is not ours."),
      STALE_GENERATION: refused(
        "The other side has a newer generation: what came from the old one is refused.",
      ),
      FAILOVER_REFUSED: refused("A takeover would not be safe or has nothing to restore."),
      SWITCHOVER_FAILED: error("The switchover failed; the service goes on where it was."),
      REPLAY_FAILED: error("The event log could not be replayed on the standby (mode hybrid)."),
      CONNECTIONS_FAILED: error(
        "The clients' connections could not be handed to the replayed application (mode hybrid).",
      ),
      NOT_RECORDED: refused("The container has no event log: it is not in mode hybrid."),
      LOG_VERSION: error(
        "The event log is of another version of the format than this ftctl's (mode hybrid).",
      ),
      LOG_DAMAGED: error(
        "The event log is damaged: its header, or a checksum in one of its lanes (mode hybrid).",
      ),
      RECORDER_DIFFERS: error(
        "The event log was recorded by another build of libftrec.so than this host's (mode hybrid).",
      ),
      FILES_CHANGED: error(
        "A replay that failed has changed files that cannot be had back (mode hybrid).",
      ),
      LOG_FAILED: error("The event log's file could not be made or used (mode hybrid)."),
      NO_CHECKPOINT: refused("There is no whole checkpoint to take over from."),
      STANDBY_GONE: error("The standby's container does not run."),
      STANDBY_NOT_REMOVED: peer(
        "The standby could not be removed, so it might still take over; nothing was changed.",
      ),
      EPOCHS_STOPPED: error(
        "Too many epochs in a row failed: protection is lost and output waits.",
      ),
      RECORD_BROKEN: error("What the host remembers of a pair is damaged on disk."),
      STATE_CORRUPT: error("A file of the state folder is damaged."),
    },
  },
  {
    title: "Hosts and links",
    codes: {
      NOT_INITIALISED: refused("This host belongs to no cluster: `ftctl init` or `ftctl join`."),
      ALREADY_INITIALISED: refused("This host belongs to a cluster; its keys are not overwritten."),
      NOT_AUTHORITY: refused("Only the host where `ftctl init` was run can do this."),
      AUTHORITY_MISMATCH: refused(
        "The host that answered did not issue the token: wrong address, or an intruder.",
      ),
      JOIN_TOKEN_INVALID: refused("The token is wrong, used, expired or for another host."),
      HOST_NAME_TAKEN: refused("The cluster has a host of this name."),
      TOO_MANY_ATTEMPTS: refused("Too many attempts to join failed; wait a minute."),
      TOO_MANY_TOKENS: error("Too many tokens are outstanding; they expire by themselves."),
      TOO_MANY_PEERS: error("The host knows as many peers as it can."),
      PEER_UNREACHABLE: peer("The other host's agent does not answer."),
      PEER_TIME_OUT: timeOut("The other host's agent took the call but did not answer in time."),
      PEER_UNKNOWN: notFound("This host knows no peer of that name."),
      PEER_FOREIGN: peer("The host that answered is not the one it should be."),
      VERSION_MISMATCH: peer("The two sides run versions that do not understand each other."),
      CANNOT_LISTEN: error("The agent cannot listen on its address or port."),
      BAD_REQUEST: error("A joining host sent a certificate request that is not acceptable."),
      BAD_MESSAGE: error("A message between agents is not what was agreed; it was refused."),
      MESSAGE_TOO_LARGE: error("A message between agents is over the bound; it was refused."),
      METHOD_UNKNOWN: error("The other agent does not know this call: versions differ."),
      UPLOAD_INCOMPLETE: error("A transfer between agents broke off; nothing of it was kept."),
      STREAM_BUSY: error("The checkpoint stream has its fill of epochs; this one was not sent."),
      STREAM_CORRUPT: error(
        "The checkpoint stream carried something damaged; it was refused whole.",
      ),
      STREAM_TIME_OUT: timeOut("The checkpoint stream fell silent."),
      EPOCH_TRUNCATED: error("An epoch's file is shorter than it should be; it was not sent."),
    },
  },
  {
    title: "Docker",
    codes: {
      DOCKER_UNREACHABLE: error("Docker does not answer, or its socket may not be opened."),
      DOCKER_TIMEOUT: timeOut("Docker did not answer in time."),
      DOCKER_FAILED: error("Docker refused or failed; its own words are quoted."),
      DOCKER_CONFLICT: error("Docker refused because of the state of a container or a name."),
      DOCKER_NOT_FOUND: notFound("Docker does not have what was asked for."),
      CONTAINER_NOT_FOUND: notFound("There is no container of this name or id."),
      CONTAINER_AMBIGUOUS: usage("The id prefix fits several containers; give more of it."),
      CONTAINER_NOT_RUNNING: refused("The container does not run."),
      CONTAINER_EXITED: error(
        "The container ended as soon as it was started; its output tells why.",
      ),
      IMAGE_NOT_FOUND: notFound("The host does not have the image."),
      IMAGE_DIFFERS: error("The two hosts' images are not the same."),
      IMAGE_TRANSFER_FAILED: error("Shipping the image to the other host broke off."),
      IMAGE_TRANSFER_TIMEOUT: timeOut("Shipping the image to the other host came to a stop."),
      LAYER_COPY_FAILED: error("The container's writable layer could not be copied."),
      DISK_FULL: error("A disk is full."),
      STORAGE_UNSUPPORTED: preflight(
        "Docker keeps the writable layer in a way other than overlay2.",
      ),
      MOUNT_NOT_FOUND: usage("The policy names a mount that the container does not have."),
      MOUNT_UNSUPPORTED: preflight("A mount of the container cannot be replicated."),
      APPLICATION_GONE: error("The application's process is no longer there."),
      CGROUP_NOT_FOUND: error("The container's control group cannot be found."),
      INIT_PROGRAM_MISSING: error("ftinit, the container's first process, cannot be reached."),
      UNDO_FAILED: error("Undoing a failed operation failed too; the message says what is left."),
    },
  },
  {
    title: "Gate, CRIU and checkpoints",
    codes: {
      CONTROL_BUSY: error("Too many requests wait for a program of ftctl."),
      CONTROL_CLOSED: error("A program of ftctl (gate, dumper, store) has ended."),
      CONTROL_FAILED: error("A program of ftctl refused or failed; the message says why."),
      CONTROL_PROTOCOL: error("A program of ftctl answered something that is not its protocol."),
      CONTROL_TIMEOUT: timeOut("A program of ftctl did not answer in time."),
      CHECKPOINT_FAILED: error(
        "A checkpoint failed; the application runs on and output waits. CRIU's lines are quoted.",
      ),
      CHECKPOINT_CORRUPT: error("A checkpoint came damaged; it was refused whole."),
      CHECKPOINT_VERSION: error("A checkpoint is of a version that this host does not read."),
      CHECKPOINT_OUT_OF_ORDER: error(
        "A checkpoint does not follow the last one; a full one comes next.",
      ),
      RESTORE_FAILED: error("Restoring the application failed. CRIU's lines are quoted."),
      MEMORY_LOST: error(
        "Memory of a restored application did not come, or came damaged; the application was ended.",
      ),
      MEMORY_MISSING: timeOut("The memory of a restored application is not all there yet."),
      STORE_FAILED: error("The standby's store of checkpoints failed."),
      STORE_FULL: error("The standby has no room for the checkpoint; the last one stays good."),
      CRIU_PROBE_FAILED: preflight("CRIU could not dump and restore a probe process on this host."),
      GATE_NOT_STARTED: error("ftgate did not start."),
      INTERFACE_FAILED: error("The container's interface could not be set up."),
      TOOLKIT_DAMAGED: error("CRIU's folder is incomplete or changed; install it again."),
      TOOLKIT_UNUSABLE: error("The installed CRIU does not work on this machine."),
      NO_DEBIAN_MIRROR: error(
        "The machine's apt configuration names no Debian mirror to take CRIU from.",
      ),
      NO_DEBIAN_KEYRING: error(
        "Debian's archive keys are missing, so that no package can be trusted.",
      ),
    },
  },
];

export const ERROR_CODES: ReadonlyMap<string, ErrorCode> = new Map(
  ERROR_GROUPS.flatMap(({ codes }) => Object.entries(codes)),
);

/** The tables of docs/errors.md. */
export function errorTables(): string {
  return ERROR_GROUPS.map(({ title, codes }) => {
    const lines = Object.entries(codes).map(
      ([code, { exitCode, meaning }]) => `| \`${code}\` | ${exitCode} | ${meaning} |`,
    );
    return [`### ${title}`, "", "| code | exit | meaning |", "|---|---|---|", ...lines].join("\n");
  }).join("\n\n");
}
