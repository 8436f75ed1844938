// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/load.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "kernels/error.h"
#include "parallel/agree.h"
#include "parallel/text_exchange.h"
#include "trainer/checkpoint/checkpoint_directory.h"

namespace farsight {
namespace {

// What work failed with, if it did.
template <typename Work>
std::optional<Error> failure_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

class Loader {
 public:
  Loader(const ResumeRequest& request, const std::string& directory, FileSystem& files, Communicator& world,
         const std::function<std::vector<TensorTarget>(const Manifest&)>& targets)
      : request_(request), directory_(directory), files_(files), world_(world), targets_(targets) {}

  LoadedCheckpoint load() {
    LoadedCheckpoint result;
    together(world_, [&] { collect(); });
    while (offer()) {
      if (!take(result)) continue;
      together(world_, [&] { rewind(*result.manifest); });
      break;
    }
    result.notes = share_notes();
    return result;
  }

 private:
  bool root() const { return world_.rank() == 0; }

  void collect() {
    if (!root()) return;
    if (request_.mode == ResumeRequest::Mode::path) {
      candidates_ = {{-1, request_.path}};
      return;
    }
    candidates_ = list_checkpoints(files_, directory_);
    if (request_.mode == ResumeRequest::Mode::never && !candidates_.empty()) {
      fail(ErrorKind::config,
           "{} already holds checkpoints (newest: step {}); continue with --resume=auto, or choose another run.dir",
           directory_, candidates_.front().step);
    }
    if (candidates_.empty() && request_.mode == ResumeRequest::Mode::automatic) {
      notes_.push_back(fmt::format("no checkpoint in {}: starting from step 0", directory_));
    }
  }

  // Rank 0 looks for the next candidate that verifies up to its headers; its manifest travels to everyone. False: there
  // is none left.
  bool offer() {
    std::string text;
    together(world_, [&] {
      while (root() && next_ < candidates_.size() && text.empty()) text = check_candidate();
      if (root() && text.empty() && !candidates_.empty()) {
        fail(ErrorKind::data, "{}\nno good checkpoint left in {}; restore one, or start again with another run.dir",
             joined_notes(), directory_);
      }
    });
    text = broadcast_text(world_, std::move(text), 0);
    if (text.empty()) return false;
    path_ = broadcast_text(world_, root() ? candidates_[next_].path : "", 0);
    together(world_, [&] { manifest_ = decode_manifest(text, path_); });
    return true;
  }

  std::string joined_notes() const {
    std::string text;
    for (const std::string& note : notes_) text += (text.empty() ? "" : "\n") + note;
    return text;
  }

  std::string check_candidate() {
    const auto failure =
        failure_of([&] { manifest_ = verify_checkpoint(files_, candidates_[next_].path, request_.level); });
    if (!failure) return encode_manifest(manifest_);
    reject(*failure);
    return {};
  }

  void reject(const Error& why) {
    const std::string name =
        candidates_[next_].step < 0 ? candidates_[next_].path : fmt::format("step {}", candidates_[next_].step);
    if (request_.mode == ResumeRequest::Mode::path) {
      throw Error(why.kind(), fmt::format("checkpoint {} rejected: {}", name, why.what()));
    }
    ++next_;
    const std::string then = next_ < candidates_.size() ? fmt::format("trying step {}", candidates_[next_].step)
                                                        : std::string("no older one is left");
    notes_.push_back(fmt::format("checkpoint {} rejected: {}; {}", name, why.what(), then));
  }

  // False: rejected by some rank, the next one must be tried.
  bool take(LoadedCheckpoint& result) {
    std::vector<TensorTarget> wanted;
    together(world_, [&] { wanted = targets_(manifest_); });
    const auto failure = failure_of([&] { together(world_, [&] { load_tensors(files_, path_, manifest_, wanted); }); });
    if (!failure) {
      result.manifest = manifest_;
      result.path = path_;
      return true;
    }
    // A wrong request of ours is no damage of the file.
    if (failure->kind() != ErrorKind::data && failure->kind() != ErrorKind::io) throw *failure;
    together(world_, [&] {
      if (root()) reject(*failure);
    });
    return false;
  }

  // An explicit path into this run abandons what came after it.
  void rewind(const Manifest& manifest) {
    if (!root() || request_.mode != ResumeRequest::Mode::path) return;
    const std::string same = directory_ + "/" + step_name(manifest.state.step);
    FileStatus here, there;
    if (files_.status(same, here) < 0 || files_.status(path_, there) < 0) return;
    if (same_place(same, path_)) set_aside_newer(files_, directory_, manifest.state.step);
  }

  // Paths may be spelled in many ways; a checkpoint is known by its save.
  bool same_place(const std::string& a, const std::string& b) {
    return read_manifest(files_, a).uuid == read_manifest(files_, b).uuid;
  }

  std::vector<std::string> share_notes() {
    std::vector<std::string> shared;
    std::array<int64_t, 1> count{static_cast<int64_t>(notes_.size())};
    world_.all_reduce(std::span<int64_t>(count), ReduceOp::max);
    for (size_t i = 0; i < static_cast<size_t>(count[0]); ++i) {
      shared.push_back(broadcast_text(world_, root() ? notes_[i] : "", 0));
    }
    return shared;
  }

  const ResumeRequest& request_;
  const std::string& directory_;
  FileSystem& files_;
  Communicator& world_;
  const std::function<std::vector<TensorTarget>(const Manifest&)>& targets_;
  // Rank 0 only:
  std::vector<Candidate> candidates_;
  size_t next_ = 0;
  std::vector<std::string> notes_;
  // Every rank: the candidate on offer.
  std::string path_;
  Manifest manifest_;
};

}  // namespace

ResumeRequest parse_resume(std::string_view text) {
  if (text == "never") return {ResumeRequest::Mode::never, {}};
  if (text == "auto") return {ResumeRequest::Mode::automatic, {}};
  if (text.empty()) fail(ErrorKind::usage, "--resume needs never, auto or the path of a checkpoint");
  return {ResumeRequest::Mode::path, std::string(text)};
}

LoadedCheckpoint load_checkpoint(const ResumeRequest& request, const std::string& directory, FileSystem& files,
                                 Communicator& world,
                                 const std::function<std::vector<TensorTarget>(const Manifest&)>& targets) {
  return Loader(request, directory, files, world, targets).load();
}

}  // namespace farsight
