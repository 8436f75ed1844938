// SPDX-License-Identifier: Apache-2.0
#include "trainer/command_line.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "trainer/version.h"

namespace farsight {
namespace {

struct Outcome {
  int code;
  std::string out, err;
};
Outcome run(const std::vector<std::string>& args) {
  std::ostringstream out, err;
  const int code = run_program(args, out, err);
  return {code, out.str(), err.str()};
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(CommandLine, VersionNamesCommitCompilerAndLibraries) {
  const Outcome found = run({"--version"});
  EXPECT_EQ(found.code, 0);
  for (const char* part : {"farsight 0.1.0 (", "g++", "Open MPI", "oneDNN", "HDF5", "Highway"})
    EXPECT_TRUE(contains(found.out, part)) << part;
  EXPECT_TRUE(contains(found.out, version_commit()));
}

TEST(CommandLine, HelpListsEveryCommand) {
  const Outcome found = run({"--help"});
  EXPECT_EQ(found.code, 0);
  for (const Command& command : commands()) EXPECT_TRUE(contains(found.out, command.name)) << command.name;
}

TEST(CommandLine, TableIsComplete) {
  std::set<std::string> names;
  for (const Command& command : commands()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_FALSE(command.summary.empty()) << command.name;
    EXPECT_NE(static_cast<bool>(command.run), static_cast<bool>(command.run_raw)) << command.name;
    EXPECT_TRUE(contains(command.example, "farsight " + command.name)) << command.name;
    EXPECT_LE(command.least_positional, command.most_positional) << command.name;
    if (command.run_raw) continue;
    const Outcome help = run({command.name, "--help"});
    EXPECT_EQ(help.code, 0) << command.name;
    EXPECT_TRUE(contains(help.out, command.example)) << command.name;
    for (const CommandOption& option : command.options) EXPECT_TRUE(contains(help.out, "--" + option.name));
  }
}

TEST(CommandLine, WrongCommandLinesGive64AndSayWhy) {
  const auto expect = [](const std::vector<std::string>& args, const char* part) {
    const Outcome found = run(args);
    EXPECT_EQ(found.code, 64) << found.err;
    EXPECT_TRUE(contains(found.err, part)) << found.err;
    EXPECT_EQ(found.out, "");
  };
  expect({}, "a command is missing; available: ");
  expect({"plna"}, "'plna' is not in this build; did you mean 'plan'?; available: ");
  expect({"attend"}, "'attend' is not in this build");
  expect({"plan"}, "needs more arguments: farsight plan CONFIG");
  expect({"plan", "a.toml", "b.toml"}, "does not take 'b.toml'");
  expect({"plan", "a.toml", "--rnaks=2"}, "unknown option '--rnaks' of `farsight plan`; did you mean 'ranks'?");
  expect({"plan", "a.toml", "--ranks=two"}, "--ranks = 'two' is not an integer");
  expect({"plan", "a.toml", "--ranks=2", "--ranks=3"}, "option '--ranks' is given twice");
  expect({"plan", "a.toml", "--memory=much"}, "--memory = 'much' is not a size such as 80GiB");
  expect({"plan", "a.toml", "--optim.lr", "3"}, "'--optim.lr' needs its value behind '='");
  expect({"config", "shwo"}, "unknown verb 'config shwo'; did you mean 'show'?");
  expect({"config", "explain", "model.haeds"}, "unknown key 'model.haeds'; did you mean 'heads'?");
  expect({"config", "show"}, "needs a configuration");
  expect({"config", "init", "--optim.lr=1"}, "has a meaning for `farsight config show` only");
  expect({"completion", "zsh"}, "completion for 'zsh' is not in this build; available: bash");
}

TEST(CommandLine, ConfigurationProblemsGive78) {
  const Outcome found = run({"plan", "no-such.toml"});
  EXPECT_EQ(found.code, 78);
  EXPECT_EQ(found.err, "no-such.toml: error: cannot open 'no-such.toml': No such file or directory\n");
}

TEST(CommandLine, CommandsWithoutMessagePassingSpeakOnce) {
  setenv("OMPI_COMM_WORLD_RANK", "1", 1);
  const Outcome second = run({"config", "init"});
  const Outcome wrong = run({"plna"});
  unsetenv("OMPI_COMM_WORLD_RANK");
  EXPECT_EQ(second.code, 0);
  EXPECT_EQ(second.out, "");
  EXPECT_EQ(wrong.code, 64);
  EXPECT_EQ(wrong.err, "");
  EXPECT_NE(run({"config", "init"}).out, "");
}

TEST(CommandLine, SuggestionsAreNear) {
  EXPECT_EQ(nearest_name("rnig", {"data", "ring", "tensor"}), "ring");
  EXPECT_EQ(nearest_name("xyz", {"data", "ring", "tensor"}), "");
  EXPECT_EQ(nearest_name(std::string(100000, 'a'), {"data"}), "");
}

TEST(CommandLine, CompletionIsValidBash) {
  const Outcome found = run({"completion", "bash"});
  EXPECT_EQ(found.code, 0);
  EXPECT_TRUE(contains(found.out, "--parallel.ring="));
  EXPECT_TRUE(contains(found.out, "complete -F _farsight farsight"));
  const auto path = std::filesystem::temp_directory_path() / ("farsight-completion-" + std::to_string(getpid()));
  std::ofstream(path)
      << found.out
      << "COMP_WORDS=(farsight plan lm.toml --model.mlp = sw); COMP_CWORD=5; _farsight\n"
         "[ \"${COMPREPLY[*]}\" = swiglu ] || exit 3\n"
         "COMP_WORDS=(farsight pl); COMP_CWORD=1; _farsight; [ \"${COMPREPLY[*]}\" = plan ] || exit 4\n";
  const int code = std::system(("bash " + path.string()).c_str());  // NOLINT(cert-env33-c): the test's own file
  std::filesystem::remove(path);
  EXPECT_EQ(code, 0);
}

TEST(CommandLine, SchemaCoversTheKeys) {
  const Outcome found = run({"config", "schema"});
  EXPECT_EQ(found.code, 0);
  EXPECT_TRUE(contains(found.out, "\"additionalProperties\": false"));
  EXPECT_TRUE(contains(found.out, "\"kv_heads\""));
}

}  // namespace
}  // namespace farsight
