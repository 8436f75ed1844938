// SPDX-License-Identifier: Apache-2.0
// Metadata parsing in a child process. A plain fork was chosen over running the program again: it works from any
// program that links this library (tests, other tools), takes no detour through command lines and environment, and is
// safe because it happens before MPI_Init and before threads exist. The child ends with _exit: no handler of the parent
// runs twice.
#include "data/probe.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>

#include "data/array_metadata.h"
#include "data/corpus_check.h"
#include "data/corpus_metadata.h"
#include "data/file.h"
#include "data/series_check.h"
#include "data/series_metadata.h"
#include "kernels/error.h"

namespace farsight {

namespace {

// First byte of an answer: what follows.
constexpr char kCorpus = 'T';
constexpr char kSeries = 'S';
constexpr char kDataError = 'E';
constexpr char kOtherError = 'O';
constexpr size_t kMaxAnswer = size_t{256} << 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitMemory = false;  // shadow memory alone is terabytes of address space
#else
constexpr bool kLimitMemory = true;
#endif

rlim_t mapped_bytes() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  return pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
}

void lower_limit(__rlimit_resource what, rlim_t value) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  setrlimit(what, &limit);
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // the parent is gone
    bytes.remove_prefix(static_cast<size_t>(put));
  }
}

std::string answer_for(const std::string& path) {
  try {
    const DataDescriptor found = describe_data(path);
    if (const auto* corpus = std::get_if<CorpusDescriptor>(&found)) return kCorpus + corpus->to_bytes();
    return kSeries + std::get<SeriesDescriptor>(found).to_bytes();
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::data ? kDataError : kOtherError) + std::string(error.what());
  } catch (const std::exception& error) {  // out of memory under the limit
    return kDataError + fmt::format("{}: damaged or hostile file ({})", path, error.what());
  }
}

[[noreturn]] void run_child(const std::string& path, const ProbeLimits& limits, int pipe) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM}) std::signal(signal, SIG_DFL);
  setenv("HDF5_PLUGIN_PRELOAD", "::", /*overwrite=*/1);
  lower_limit(RLIMIT_CORE, 0);
  lower_limit(RLIMIT_CPU, static_cast<rlim_t>(limits.cpu_s));
  if (kLimitMemory) lower_limit(RLIMIT_AS, mapped_bytes() + static_cast<rlim_t>(limits.memory_bytes));
  write_all(pipe, answer_for(path));
  _exit(0);
}

// Everything until the child closes its end; nothing when the deadline passes.
std::optional<std::string> collect(int fd, int wall_s) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::seconds(wall_s);
  std::string answer;
  std::array<char, 65536> buffer{};
  while (answer.size() <= kMaxAnswer) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::max<int64_t>(0, left)));
    if (ready == 0) return std::nullopt;
    if (ready < 0 && errno == EINTR) continue;
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return answer;
    answer.append(buffer.data(), static_cast<size_t>(got));
  }
  return std::nullopt;
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

void check_unchanged(const std::string& path, const DataFileInfo& info) {
  if (info.file == path && info.file_bytes == File::open_read(path).size()) return;
  fail(ErrorKind::data, "{}: changed while it was opened", path);
}

DataDescriptor read_answer(const std::string& path, const std::string& answer) {
  const std::string body = answer.substr(1);
  if (answer[0] == kDataError) throw Error(ErrorKind::data, body);
  if (answer[0] == kOtherError) throw Error(ErrorKind::io, body);
  if (answer[0] == kSeries) {
    SeriesDescriptor series = SeriesDescriptor::from_bytes(body);
    check_unchanged(path, series);
    check_series(series);
    return series;
  }
  CorpusDescriptor corpus = CorpusDescriptor::from_bytes(body);
  check_unchanged(path, corpus);
  check_descriptor(corpus);
  return corpus;
}

CorpusDescriptor finish(CorpusDescriptor corpus) {
  check_descriptor(corpus);
  for (SplitDescriptor& split : corpus.splits) read_array_head(corpus.file, corpus.file_bytes, split.tokens);
  corpus.sidecar = sidecar_names(corpus);
  return corpus;
}

SeriesDescriptor finish(SeriesDescriptor series) {
  check_series(series);
  for (SeriesEntry& entry : series.series) read_array_head(series.file, series.file_bytes, entry.values);
  series.sidecar = sidecar_names(series);
  return series;
}

CorpusDescriptor as_corpus(DataDescriptor&& found, const std::string& path) {
  if (auto* corpus = std::get_if<CorpusDescriptor>(&found)) return std::move(*corpus);
  fail(ErrorKind::data,
       "{}: kind is 'series', 'tokens' is needed; to forecast time series set task.kind = \"forecast\"", path);
}

SeriesDescriptor as_series(DataDescriptor&& found, const std::string& path) {
  if (auto* series = std::get_if<SeriesDescriptor>(&found)) return std::move(*series);
  fail(ErrorKind::data, "{}: kind is 'tokens', 'series' is needed; prepare time series with 'farsight data csv'", path);
}

}  // namespace

DataDescriptor describe_data(const std::string& path) {
  const int64_t bytes = check_is_hdf5(path);
  DataDescriptor found = [&]() -> DataDescriptor {
    const h5::Lock lock;
    const OpenDataFile opened = open_data_file(path, bytes);
    if (opened.kind == "series") return parse_series(opened);
    if (opened.kind == "tokens") return parse_corpus(opened);
    fail(ErrorKind::data, "{}: kind is '{}'; 'tokens' and 'series' are known", path, opened.kind);
  }();
  return std::visit([](auto& descriptor) -> DataDescriptor { return finish(std::move(descriptor)); }, found);
}

CorpusDescriptor describe_corpus(const std::string& path) { return as_corpus(describe_data(path), path); }
SeriesDescriptor describe_series(const std::string& path) { return as_series(describe_data(path), path); }

CorpusDescriptor probe_corpus(const std::string& path, const ProbeLimits& limits) {
  return as_corpus(probe_data(path, limits), path);
}

SeriesDescriptor probe_series(const std::string& path, const ProbeLimits& limits) {
  return as_series(probe_data(path, limits), path);
}

DataDescriptor probe_data(const std::string& path, const ProbeLimits& limits) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) fail(ErrorKind::environment, "{}: no pipe: {}", path, std::strerror(errno));
  const pid_t child = ::fork();
  if (child < 0) {
    const int code = errno;
    ::close(ends[0]);
    ::close(ends[1]);
    fail(ErrorKind::environment, "{}: cannot start the process that checks the file: {}", path, std::strerror(code));
  }
  if (child == 0) {
    ::close(ends[0]);
    run_child(path, limits, ends[1]);
  }
  ::close(ends[1]);
  const std::optional<std::string> answer = collect(ends[0], limits.wall_s);
  ::close(ends[0]);
  if (!answer) ::kill(child, SIGKILL);
  const int status = wait_for(child);
  if (!answer)
    fail(ErrorKind::data, "{}: damaged or hostile file: no answer from the HDF5 library in {} s", path, limits.wall_s);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || answer->empty()) {
    fail(ErrorKind::data, "{}: damaged or hostile file: the HDF5 library {} while parsing it", path,
         WIFSIGNALED(status) ? fmt::format("ended with signal {}", WTERMSIG(status)) : std::string("failed"));
  }
  return read_answer(path, *answer);
}

}  // namespace farsight
