//! Devices: those that the backends have, those of an RPC server, and serving our own to others.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::Read;
use std::ptr;

use llama_otel_sys as sys;

use crate::engine::Backend;
use crate::output::Device;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no device {name}; there are {there}")]
    NoDevice { name: String, there: String },
    #[error("this program was built without the backend rpc")]
    NoRpc,
    #[error("no RPC server with a device answers at {endpoint}")]
    NoServer { endpoint: String },
    #[error("{text:?} contains a zero byte")]
    Zero { text: String },
}

type AddServer = unsafe extern "C" fn(*const c_char) -> sys::ggml_backend_reg_t;
type StartServer = unsafe extern "C" fn(*const c_char, *const c_char, usize, usize, *mut sys::ggml_backend_dev_t);

/// Every device of every backend.
pub fn all(_backend: &Backend) -> Vec<Device> {
    let text = |text: *const c_char| match text.is_null() {
        true => String::new(),
        // SAFETY: ggml's names and descriptions are C strings that live as long as the device.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    };
    // SAFETY: the backends are loaded, and the index is below the count.
    let device = |index: usize| unsafe {
        let device = sys::ggml_backend_dev_get(index);
        let (mut free, mut total) = (0, 0);
        sys::ggml_backend_dev_memory(device, &mut free, &mut total);
        Device {
            name: text(sys::ggml_backend_dev_name(device)),
            description: text(sys::ggml_backend_dev_description(device)),
            kind: match sys::ggml_backend_dev_type(device) {
                sys::GGML_BACKEND_DEVICE_TYPE_CPU => "cpu",
                sys::GGML_BACKEND_DEVICE_TYPE_GPU => "gpu",
                sys::GGML_BACKEND_DEVICE_TYPE_IGPU => "igpu",
                sys::GGML_BACKEND_DEVICE_TYPE_ACCEL => "accel",
                _ => "other",
            },
            memory: total as u64,
        }
    };
    // SAFETY: it only counts.
    (0..unsafe { sys::ggml_backend_dev_count() }).map(device).collect()
}

/// The device of this name, such as `CPU`, `CUDA0` or `RPC0`.
pub fn by_name(backend: &Backend, name: &str) -> Result<sys::ggml_backend_dev_t, Error> {
    let text = c_string(name)?;
    // SAFETY: the name is a C string.
    let device = unsafe { sys::ggml_backend_dev_by_name(text.as_ptr()) };
    if device.is_null() {
        let there = all(backend).into_iter().map(|device| device.name).collect::<Vec<_>>().join(", ");
        return Err(Error::NoDevice { name: name.to_owned(), there });
    }
    Ok(device)
}

/// Makes the devices of the server at `endpoint` (`HOST:PORT`) ours, named `RPC0` and so on.
pub fn add_server(_backend: &Backend, endpoint: &str) -> Result<(), Error> {
    let text = c_string(endpoint)?;
    let address = rpc_function(c"ggml_backend_rpc_add_server")?;
    // SAFETY: the backend rpc has this function under this name, with this signature.
    let registry = unsafe {
        let add_server: AddServer = std::mem::transmute(address);
        add_server(text.as_ptr())
    };
    if registry.is_null() {
        return Err(Error::NoServer { endpoint: endpoint.to_owned() });
    }
    // SAFETY: it is the registry of that server.
    unsafe { sys::ggml_backend_register(registry) };
    Ok(())
}

/// Serves one device to others until standard input ends.
pub fn serve(backend: &Backend, endpoint: &str, device: &str, threads: i32) -> Result<(), Error> {
    let text = c_string(endpoint)?;
    // Pointers of C are not sent to threads: their addresses are.
    let device = by_name(backend, device)? as usize;
    let address = rpc_function(c"ggml_backend_rpc_start_server")? as usize;
    let threads = usize::try_from(threads).unwrap_or(1);
    std::thread::spawn(move || {
        let mut devices = [device as sys::ggml_backend_dev_t];
        // SAFETY: the backend rpc has this function under this name, with this signature; it does
        // not return, and the device lives as long as the process.
        unsafe {
            let start_server: StartServer = std::mem::transmute(address as *mut c_void);
            start_server(text.as_ptr(), ptr::null(), threads, devices.len(), devices.as_mut_ptr());
        }
    });
    // Whoever started this program closes its input, or dies.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

fn rpc_function(name: &CStr) -> Result<*mut c_void, Error> {
    // SAFETY: the names are C strings, and the registry is not null where it is used.
    let address = unsafe {
        let registry = sys::ggml_backend_reg_by_name(c"RPC".as_ptr());
        match registry.is_null() {
            true => ptr::null_mut(),
            false => sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr()),
        }
    };
    if address.is_null() { Err(Error::NoRpc) } else { Ok(address) }
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Zero { text: text.to_owned() })
}
