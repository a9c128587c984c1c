//! What to type to install a missing tool, in the words of this system's package manager.

/// A tool's package in each package manager.
struct Package {
    tool: &'static str,
    apt: &'static str,
    brew: &'static str,
    dnf: &'static str,
    winget: &'static str,
    pip: Option<&'static str>,
}

const PACKAGES: &[Package] = &[
    Package { tool: "cmake", apt: "cmake", brew: "cmake", dnf: "cmake", winget: "Kitware.CMake", pip: Some("cmake") },
    Package {
        tool: "ninja",
        apt: "ninja-build",
        brew: "ninja",
        dnf: "ninja-build",
        winget: "Ninja-build.Ninja",
        pip: Some("ninja"),
    },
    Package {
        tool: "libclang",
        apt: "libclang-dev",
        brew: "llvm",
        dnf: "clang-devel",
        winget: "LLVM.LLVM",
        pip: Some("libclang"),
    },
    Package {
        tool: "python3",
        apt: "python3-venv",
        brew: "python",
        dnf: "python3",
        winget: "Python.Python.3.13",
        pip: None,
    },
    Package {
        tool: "c++",
        apt: "g++",
        brew: "gcc",
        dnf: "gcc-c++",
        winget: "Microsoft.VisualStudio.2022.BuildTools",
        pip: None,
    },
];

/// The one command that installs `tools` (`cmake`, `ninja`, `libclang`, `python3`, `c++`) on this machine.
pub fn install_command(tools: &[&str]) -> String {
    let manager = ["apt-get", "brew", "dnf", "winget"].into_iter().find(|name| which::which(name).is_ok());
    command(manager, tools)
}

fn command(manager: Option<&str>, tools: &[&str]) -> String {
    let packages: Vec<_> = PACKAGES.iter().filter(|package| tools.contains(&package.tool)).collect();
    let (start, names): (&str, Option<Vec<_>>) = match manager {
        Some("apt-get") => ("sudo apt-get install", packages.iter().map(|package| Some(package.apt)).collect()),
        Some("brew") => ("brew install", packages.iter().map(|package| Some(package.brew)).collect()),
        Some("dnf") => ("sudo dnf install", packages.iter().map(|package| Some(package.dnf)).collect()),
        Some("winget") => ("winget install", packages.iter().map(|package| Some(package.winget)).collect()),
        _ => ("python3 -m pip install", packages.iter().map(|package| package.pip).collect()),
    };
    match names {
        Some(names) => format!("{start} {}", names.join(" ")),
        None => format!("install {} with this system's package manager", tools.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_manager_has_its_own_names() {
        assert_eq!(command(Some("apt-get"), &["ninja", "libclang"]), "sudo apt-get install ninja-build libclang-dev");
        assert_eq!(command(Some("brew"), &["libclang"]), "brew install llvm");
        assert_eq!(command(None, &["cmake", "ninja"]), "python3 -m pip install cmake ninja");
        assert_eq!(command(None, &["c++"]), "install c++ with this system's package manager");
    }
}
